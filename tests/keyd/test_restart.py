# SPDX-License-Identifier: Apache-2.0
"""keyd is killed, at rest and between any two writes to the data plane, and goes on from what the maps hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.keyd.net import FAST, KNOCK_PORT, Net, Node, line3, pair
from veilnet.keyd.memory_plane import MemoryPlane

REKEYING = replace(FAST, rekey_interval=2.0)
WRITES = [
    "put_link",
    "set_link_rx",
    "clear_link_rx",
    "set_link_tx",
    "select_link_tx",
    "remove_link",
    "put_circuit",
    "remove_circuit",
    "put_stream",
    "set_stream_rx",
    "clear_stream_rx",
    "set_stream_tx",
    "select_stream_tx",
    "remove_stream",
    "put_route",
    "remove_route",
    "set_knock",
    "save_state",
    "drop_state",
    "seal",
]


class KilledError(BaseException):
    """Ends keyd in the middle of an input, as SIGKILL does."""


class KillingPlane(MemoryPlane):
    """Dies before the write with the number `fuse`, then works on without keyd."""

    def __init__(self, knock_port: int) -> None:
        super().__init__(knock_port)
        self.fuse: int | None = None

    def burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                raise KilledError


def _burning(name: str) -> Callable[..., Any]:
    method = getattr(MemoryPlane, name)

    def write(self: KillingPlane, *args: Any, **kwargs: Any) -> Any:
        self.burn()
        return method(self, *args, **kwargs)

    return write


for _name in WRITES:
    setattr(KillingPlane, _name, _burning(_name))


class KillingNet(Net):
    """Where an input kills a keyd, that keyd is stopped and started again 50 ms later."""

    def event(self, node: Node, out: Any) -> None:
        self._deadly(node, lambda: super(KillingNet, self).event(node, out))

    def wake(self, node: Node) -> None:
        self._deadly(node, lambda: super(KillingNet, self).wake(node))

    def _deadly(self, node: Node, do: Callable[[], None]) -> None:
        try:
            do()
        except KilledError:
            node.stopped = True
            self.at(self.now + 0.05, lambda: node.boot(self))


def handshakes(net: Net) -> int:
    return sum(node.plane.reasons().get("OK_KNOCK", 0) for node in net.nodes.values())


@pytest.mark.parametrize("seed", range(3))
def test_restart_of_any_node_under_traffic_and_rekey_loses_nothing(seed: int) -> None:
    net = line3(seed=seed, settings=REKEYING)
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    before, chance = handshakes(net), random.Random(seed)
    net.flow("a", "b", count=3000, every=0.005, first=1)
    net.flow("b", "a", count=3000, every=0.005, first=1)
    for _ in range(20):
        node = net.nodes[chance.choice(list(net.nodes))]
        net.at(net.now + chance.uniform(0.1, 14.0), lambda node=node: _restart(net, node))  # type: ignore[misc]
    net.run(17)
    assert sorted(net.received("b")) == list(range(3001))
    assert sorted(net.received("a")) == list(range(1, 3001))
    assert handshakes(net) == before, "nobody had to shake hands again"
    (stream,) = net.nodes["a"].engine.streams.by_index.values()
    assert stream.session.epoch >= 4, "rekey went on"


def _restart(net: Net, node: Node) -> None:
    """keyd is away for 30 ms; frames for it in that time are lost, as when the ring runs unread."""
    if not node.stopped:
        node.stopped = True
        net.at(net.now + 0.03, lambda: node.boot(net))


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("fuse", range(0, 60, 2))
def test_kill_between_any_two_writes_of_a_rekey_loses_nothing(name: str, fuse: int) -> None:
    net = KillingNet({"a": "c", "b": "c"}, [("a", "b")], settings=REKEYING, plane=KillingPlane)
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    before = handshakes(net)
    net.run(1.5)
    plane = net.nodes[name].plane
    assert isinstance(plane, KillingPlane)
    plane.fuse = fuse
    net.flow("a", "b", count=800, every=0.01, first=1)
    net.flow("b", "a", count=800, every=0.01, first=1)
    net.run(10)
    assert plane.fuse is None, "the kill did happen"
    assert sorted(net.received("b")) == list(range(801))
    assert sorted(net.received("a")) == list(range(1, 801))
    assert handshakes(net) == before
    (stream,) = net.nodes["a"].engine.streams.by_index.values()
    assert stream.session.epoch >= 2, "rekey recovered"


@pytest.mark.parametrize("name", ["a", "g1", "g2", "b"])
@pytest.mark.parametrize("fuse", range(0, 40, 5))
def test_kill_while_establishing_leaves_a_state_that_works(name: str, fuse: int) -> None:
    nodes, edges = {"a": "c", "g1": "g", "g2": "g", "b": "c"}, [("a", "g1"), ("g1", "g2"), ("g2", "b")]
    net = KillingNet(nodes, edges, settings=replace(FAST, ping_interval=1.0), plane=KillingPlane)
    plane = net.nodes[name].plane
    assert isinstance(plane, KillingPlane)
    plane.fuse = fuse
    net.send("a", "b", 0)
    net.run(60)
    plane.fuse = None
    net.send("a", "b", 1)
    assert net.run(60, lambda: 1 in net.received("b")), net.nodes["a"].counters
    for node in net.nodes.values():
        engine = node.engine
        assert set(node.plane.used_links()) == set(engine.links.by_index)
        assert set(node.plane.used_streams()) == set(engine.streams.by_index)


def test_restart_with_nothing_kept_removes_what_nobody_owns() -> None:
    net = pair()
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    a = net.nodes["a"]
    for kind, index in a.plane.load_states():
        a.plane.drop_state(kind, index)
    a.boot(net)
    assert not a.plane.used_links() and not a.plane.used_labels() and not a.plane.used_streams()
    assert all(stream == 0 for _, stream in a.plane.routes().values())
    net.send("a", "b", 1)
    assert net.run(30, lambda: 1 in net.received("b"))


@pytest.mark.parametrize("junk", [b"", b"\xff\xff{}", b"\x02\x00{}", b"\x04\x00null", b"\x02\x00[]" + bytes(300)])
def test_records_that_can_not_be_read_are_dropped(junk: bytes) -> None:
    net = pair()
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    a = net.nodes["a"]
    for kind, index in a.plane.load_states():
        a.plane.save_state(kind, index, junk)
    a.boot(net)
    net.send("a", "b", 1)
    assert net.run(30, lambda: 1 in net.received("b"))


def test_differences_are_repaired_within_the_reconcile_interval() -> None:
    net = line3()
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    g2, a = net.nodes["g2"].plane, net.nodes["a"].plane
    for label in g2.used_labels():
        g2.remove_circuit(label)
    for network, (peer, _) in a.routes().items():
        a.put_route(network, peer=peer, stream=0)
    net.run(1.5)
    net.send("a", "b", 1)
    assert net.run(1, lambda: net.received("b") == [0, 1])
    assert net.nodes["g2"].counters["repaired_circuit"] == 2


def test_peer_numbers_survive_a_restart() -> None:
    net = line3()
    a = net.nodes["a"]
    before = a.plane.routes()
    a.boot(net)
    assert a.plane.routes() == before
    assert a.plane.knock_port == KNOCK_PORT
