# SPDX-License-Identifier: Apache-2.0
"""What strangers and broken wires send changes nothing."""

from __future__ import annotations

import random

import pytest

from tests.keyd.net import Net, line3, pair
from veilnet.contract import BIND_LEN, FRAME_LEN, HS_BODY_LEN, REASONS
from veilnet.keyd.dataplane import Addrs
from veilnet.keyd.engine import Engine


def state(net: Net) -> list[object]:
    """Everything that a hostile input must leave alone."""
    return [
        (
            node.name,
            node.plane.used_links(),
            node.plane.used_labels(),
            node.plane.used_streams(),
            node.plane.routes(),
            node.plane.load_states(),
            [node.plane.link_stats(i).tx_slot for i in node.plane.used_links()],
        )
        for node in net.nodes.values()
    ]


def established() -> Net:
    net = line3()
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    net.run(0.5)
    return net


def test_a_frame_with_any_bit_of_tag_or_header_flipped_is_as_if_never_sent() -> None:
    net = pair()
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    b, kept = net.nodes["b"], state(net)
    seen: list[bytes] = []
    net.mangle = lambda name, payload: seen.append(payload) if name == "b" else payload
    net.send("a", "b", 1)
    assert net.run(0.01, lambda: bool(seen))
    (link,) = b.engine.links.by_index.values()
    for bit in range(8 * len(seen[0])):
        flipped = bytearray(seen[0])
        flipped[bit // 8] ^= 1 << bit % 8
        net.output(b, b.plane.receive(link.addrs, bytes(flipped)))
        if bit < 8 * (FRAME_LEN + BIND_LEN):
            assert b.plane.reasons()["PASS_LINK_TAG"] + b.plane.reasons().get("PASS_KNOCK_TAG", 0) == bit + 1
    assert net.received("b") == [0]
    assert state(net) == kept
    assert set(b.plane.reasons()) <= set(REASONS)


@pytest.mark.parametrize("seed", range(3))
def test_garbage_and_mutations_on_every_input_of_the_engine(seed: int) -> None:
    net, rng = established(), random.Random(seed)
    kept = state(net)
    for node in net.nodes.values():
        engine, now = node.engine, net.now
        links = [*engine.links.by_index, 4000]
        labels = [0, *engine.core.labels, 60000]
        for _ in range(40):
            body = rng.randbytes(rng.choice([0, 1, 15, 16, 100, HS_BODY_LEN - 1, HS_BODY_LEN, HS_BODY_LEN + 1]))
            addrs = next(iter(engine.links.by_index.values())).addrs
            other = Addrs(addrs.remote, rng.randrange(1, 65536), addrs.local, addrs.lport)
            assert not engine.on_knock(rng.choice([addrs, other]), rng.choice([0, 1, 2]), body, now)
            assert not engine.on_control(rng.choice(links), rng.choice(labels), rng.choice([0, 1, 99]), body, now)
        assert not engine.on_no_stream(77, b"", now)
        assert sum(count for name, count in engine.core.counters.items() if name.startswith("remote_")) == 80
    assert state(net) == kept
    net.send("a", "b", 1)
    assert net.run(1, lambda: net.received("b") == [0, 1])


def test_status_counts_bodies_that_are_no_messages_and_no_others() -> None:
    net = established()
    assert [node.engine.snapshot()["data_frames"] for node in net.nodes.values()] == [0] * len(net.nodes)
    b = net.nodes["b"]
    (label,) = b.plane.used_labels()
    (leg,) = b.engine.legs.by_label.values()
    for length in (24 + 64, HS_BODY_LEN, 24 + 1472):
        b.engine.on_control(leg.link.index, label, leg.stream, bytes(length), net.now)
    assert b.engine.snapshot()["data_frames"] == 3


def test_replayed_datagrams_of_a_whole_establishment_change_nothing() -> None:
    net = line3()
    tape: list[tuple[str, object, bytes]] = []
    for node in net.nodes.values():
        receive = node.plane.receive

        def taped(addrs: Addrs, payload: bytes, node: object = node, receive: object = receive) -> object:
            tape.append((node.name, addrs, payload))  # type: ignore[attr-defined]
            return receive(addrs, payload)  # type: ignore[operator]

        node.plane.receive = taped  # type: ignore[method-assign,assignment]
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    net.run(0.5)
    recorded, kept = list(tape), state(net)
    for name, addrs, payload in recorded:
        node = net.nodes[name]
        net.output(node, node.plane.receive(addrs, payload))  # type: ignore[arg-type]
    net.run(0.2)
    assert net.received("b") == [0]
    assert state(net) == kept


def test_mutated_bodies_of_real_events_leave_the_engine_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an establishment each engine also gets every event cut short and with a bit flipped, then the real one."""
    rng = random.Random(7)
    names = ("on_knock", "on_control")
    originals = {name: getattr(Engine, name) for name in names}

    def hostile(name: str) -> object:
        def call(self: Engine, *args: object) -> object:
            body, now = args[-2], args[-1]
            assert isinstance(body, bytes)
            flipped = bytearray(body)
            flipped[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
            for bad in (bytes(flipped), body[: rng.randrange(len(body))]):
                before = self.core.plane.load_states()
                originals[name](self, *args[:-2], bad, now)
                changed = self.core.plane.load_states()
                assert changed.keys() == before.keys()
            return originals[name](self, *args)

        return call

    for name in names:
        monkeypatch.setattr(Engine, name, hostile(name))
    net = line3()
    net.send("a", "b", 0)
    # a forged reply B can't be told from a genuine one until the confirm fails, so a handshake may have to start anew
    assert net.run(120, lambda: net.received("b") == [0] or net.nodes["a"].counters.get("packet_no_stream", 0) > 0)
