# SPDX-License-Identifier: Apache-2.0
"""What a member's flood takes from the others in the key daemon: place in the queue, time, links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.attack.flood import Flood, neighbour, source
from tests.bpf.cases import sip_key
from tests.bpf.harness import World
from tests.keyd.net import Net
from veilnet import contract as c
from veilnet.keyd.core import REKEY_BURST, REKEY_RATE
from veilnet.keyd.inbox import PER_FLOW
from veilnet.keyd.links import ACCEPT_BURST, CONTROL_BURST, CONTROL_RATE
from veilnet.keyd.ring import EventRing
from veilnet.loader.maps import Maps
from veilnet.protocol.messages import Ping


class Reader:
    """The ring as keyd reads it; `handled` in order: ("knock", source) or ("control", label)."""

    def __init__(self, pins: Path) -> None:
        self.handled: list[tuple[str, str | int]] = []
        self._maps = Maps(pins)
        self.ring = EventRing(self._maps, self._handle)

    def _handle(self, event: c.Event, data: bytes) -> None:
        assert len(data) == c.HS_BODY_LEN
        knock = event.type == c.EVENT_KNOCK
        remote = ".".join(map(str, bytes(event.addrs.remote)[:4]))
        self.handled.append(("knock", remote) if knock else ("control", int(event.label)))

    def close(self) -> None:
        self.ring.close()
        self._maps.close()


@pytest.fixture
def reader(world: World) -> Iterator[Reader]:
    with closing(Reader(world.pins)) as made:
        yield made


@pytest.mark.root
def test_control_passes_a_flood_of_knocks_and_a_quiet_source_has_its_turn(
    flood: Flood,
    reader: Reader,
    world: World,
) -> None:
    world.put_link(1, neighbour(1), rx=(sip_key("one"), None))
    flood.send([flood.knock(source(1)) for _ in range(c.KNOCK_BURST)])
    assert flood.one(flood.knock(source(2))) == "OK_KNOCK"
    assert flood.one(flood.control(neighbour(1), "one")) == "OK_CONTROL"
    reader.ring.read()
    assert reader.handled == [("control", 0)]
    assert reader.ring.waiting == PER_FLOW + 1
    reader.ring.work()
    reader.ring.work()
    assert reader.handled[1:] == [("knock", source(1).src), ("knock", source(2).src)]


@pytest.mark.root
def test_what_waits_in_keyd_still_counts_as_in_the_ring(flood: Flood, reader: Reader) -> None:
    """So a flood that keyd can't keep up with ends in the data plane."""
    accepted = 0
    for _ in range(10):
        seen, _ = flood.send([flood.knock(source(number % 100)) for number in range(c.SHARE_KNOCK)])
        accepted += seen["OK_KNOCK"]
        reader.ring.read()
    assert reader.ring.waiting <= c.SHARE_KNOCK
    assert accepted - reader.ring.dropped == reader.ring.waiting
    while reader.ring.waiting:
        reader.ring.work()
    assert flood.one(flood.knock(source(3000))) == "OK_KNOCK"


def test_link_control_of_one_member_is_bounded_and_others_are_served() -> None:
    net = Net({"g": "g", "a": "c", "b": "c"}, [("a", "g"), ("b", "g")])
    guardian = net.nodes["g"].keys.node_id
    for name in ("a", "b"):
        net.nodes[name].engine.links.to(guardian, lambda link: None)
        net.act(net.nodes[name], net.nodes[name].engine._take_actions())
    net.run(2.0)
    member, node = net.nodes["a"], net.nodes["g"]
    (link,) = member.engine.links.by_index.values()
    before, seconds = net.sent, 2.0
    for _ in range(20):
        for request in range(1, 501):
            member.engine.links.send(link, Ping(request))
        net.act(member, member.engine._take_actions())
        net.run(seconds / 20)
    answered = net.sent - before - 10_000
    assert answered <= CONTROL_BURST + CONTROL_RATE * seconds + 50
    assert node.counters["remote_budget"] > 10_000 - answered - 50
    net.run(60.0)
    other = net.nodes["b"].engine.links.by_index.values()
    assert [held.peer for held in other] == [guardian]
    assert net.nodes["b"].counters.get("link_dead", 0) == 0


def test_links_of_one_member_are_accepted_at_a_bounded_rate() -> None:
    net = Net({"g": "g", "a": "c", "b": "c"}, [("a", "g"), ("b", "g")])
    guardian = net.nodes["g"].keys.node_id
    member = net.nodes["a"].engine
    for _ in range(2 * ACCEPT_BURST):
        member.links._dials.pop(guardian, None)
        assert member.links._dial(guardian)
        net.act(net.nodes["a"], member._take_actions())
        net.run(0.02)
    refused = net.nodes["g"].counters["remote_budget"]
    assert refused >= ACCEPT_BURST - 3
    net.nodes["b"].engine.links.to(guardian, lambda link: None)
    net.act(net.nodes["b"], net.nodes["b"].engine._take_actions())
    assert net.run(2.0, lambda: net.nodes["b"].engine.links.best(guardian) is not None)


@pytest.mark.parametrize("finish", [False, True], ids=["asked anew", "finished"])
def test_rekeys_of_one_member_do_not_stop_the_daemon(finish: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receive key in use is replaced only after a wait for the programs that run: 9 ms here, 32 at worst."""
    net = Net({"g": "g", "a": "c"}, [("a", "g")])
    member, node = net.nodes["a"], net.nodes["g"]
    member.engine.links.to(node.keys.node_id, lambda link: None)
    net.act(member, member.engine._take_actions())
    net.run(2.0)
    (link,) = member.engine.links.by_index.values()
    session, rekeying = link.session, link.rekeying
    assert session is not None
    assert rekeying is not None
    (held,) = node.engine.links.by_index
    if not finish:
        monkeypatch.setattr(rekeying, "on_rekeyed", lambda message: None)
    waits, epochs, seconds = 0, set(), 5.0

    def installed(index: int, slot: int, key: object, install: Callable[..., None] = node.plane.set_link_rx) -> None:
        nonlocal waits
        waits += node.plane._links[held].rx[slot].key not in {None, key}
        install(index, slot, key)

    monkeypatch.setattr(node.plane, "set_link_rx", installed)
    for _ in range(500):
        epochs.add(session.epoch)
        member.engine.links.send(link, session.start_rekey())
        net.act(member, member.engine._take_actions())
        net.run(seconds / 500)
    assert 0 < waits <= REKEY_BURST + REKEY_RATE * seconds
    assert node.counters["remote_budget"] > 400
    assert (len(epochs) > 5) is finish
    monkeypatch.undo()
    net.run(10.0)
    epoch = session.epoch
    assert net.run(150.0, lambda: session.epoch > epoch), "an honest rekey still comes through"
