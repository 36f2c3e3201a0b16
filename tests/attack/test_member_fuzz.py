# SPDX-License-Identifier: Apache-2.0
"""Members that say anything that the protocol can say, at any time, under their own keys.

A hostile node's messages are sealed by its real sessions, so they reach the deepest parts of the others' engines. Its
own engine loses track of what it said and may fail; the honest ones must not.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from tests.keyd.net import Net, Node
from veilnet.keyd.circuits import Circuit
from veilnet.keyd.link import Link
from veilnet.keyd.state import Circuit as CircuitState
from veilnet.keyd.state import Link as LinkState
from veilnet.protocol import messages as m
from veilnet.protocol.errors import LocalError
from veilnet.protocol.handshake import Mode
from veilnet.protocol.knock import KnockSchedule, seal_body

STEPS = 400
FAILURES = (LocalError, KeyError, ValueError)


def town() -> Net:
    """Hostile a and h; g is a Guardian, b and d are Confluxes, e is both.

    a ── g ── h ── e ── d
         └─── b ───┘
    """
    roles = {"a": "c", "g": "g", "h": "gc", "b": "c", "e": "gc", "d": "c"}
    return Net(roles, [("a", "g"), ("g", "h"), ("h", "e"), ("e", "d"), ("g", "b"), ("b", "e")])


class Hostile:
    def __init__(self, net: Net, name: str, rng: random.Random) -> None:
        self.net, self.node, self.rng = net, net.nodes[name], rng
        self._ids = [node.keys.node_id for node in net.nodes.values()]

    def _number(self) -> int:
        """An id or label: ours, one that somebody has open, or any."""
        known = [0, 1, 2, 7, *self.node.engine.core.labels]
        for link in self.node.engine.links.by_index.values():
            known += link.labels
        known += [circuit.out_label for circuit in self.node.engine.circuits.by_label.values()]
        known += [leg.out_label for leg in self.node.engine.legs.by_label.values()]
        known += list(self.node.engine._requests._open)
        return self.rng.choice([*known, self.rng.randrange(1, 1 << 16)])

    def _label(self) -> int:
        return max(1, self._number() % (1 << 16))

    def message(self) -> m.Message:
        rng = self.rng
        x = self.node.engine.peers.provider.dh_key(rng.randbytes(32)).public if rng.random() < 0.8 else bytes(32)
        ek = self.node.engine.peers.provider.kem_key(rng.randbytes(64)).public if rng.random() < 0.8 else bytes(1184)
        epoch = rng.choice([0, 1, 1, 1, 2, 3, (1 << 32) - 1])
        return rng.choice(
            [
                m.Ready(epoch),
                m.Ping(self._number()),
                m.Pong(self._number()),
                m.Rekey(epoch, x, ek),
                m.Rekeyed(epoch, x, rng.randbytes(1088), rng.randbytes(16)),
                m.Create(self._number(), self._label()),
                m.Create(self._number(), self._label()),
                m.Created(self._number(), self._label()),
                m.Extend(self._number(), rng.choice([0, self._label()]), rng.choice(self._ids)),
                m.Extend(self._number(), self._label(), rng.choice(self._ids)),
                m.Extended(self._number()),
                m.Destroy(self._label()),
                m.Refused(self._number(), rng.randrange(256)),
                m.Close() if rng.random() < 0.1 else m.Ping(1),
            ]
        )

    def handshake(self) -> bytes:
        """A hello, or a confirm made up, of a handshake in any mode with anybody."""
        rng, peers = self.rng, self.node.engine.peers
        initiator = peers.initiator(rng.choice(list(Mode)), rng.choice(self._ids))
        hellos = initiator.hellos() if initiator else (b"\5" + rng.randbytes(300),)
        payload = rng.choice([*hellos, bytes([rng.randrange(1, 6)]) + rng.randbytes(200)])
        slot = KnockSchedule.slot_of(self.net.now)
        return seal_body(peers.circuit_schedule.knock_keys(slot), payload, rng.randbytes)

    def step(self) -> None:
        engine, rng = self.node.engine, self.rng
        links: list[Link] = [link for link in engine.links.by_index.values() if link.state is LinkState.UP]
        circuits: list[Circuit] = [c for c in engine.circuits.by_label.values() if c.out_label]
        streams = list(engine.streams.by_index.values())
        kind = rng.randrange(8)
        if not links or kind == 0:
            others = [node for node in self._ids if node != self.node.keys.node_id]
            engine.links.renew(rng.choice(others), lambda link: None)
        elif kind <= 3:
            engine.links.send(rng.choice(links), self.message())
        elif kind == 4 and streams:
            engine.streams.send(rng.choice(streams), self.message())
        elif kind == 5 and circuits and (circuit := rng.choice(circuits)).session is not None:
            engine.circuits._send_hop(circuit, self.message())
        elif kind == 6 and circuits and (link := (circuit := rng.choice(circuits)).link) is not None:
            engine.links.send_body(link, circuit.out_label, 255, self.handshake())
        else:
            engine.links.send_body(rng.choice(links), self._label(), rng.randrange(256), self.handshake())


def shield(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile engine's own failures are nobody's."""
    for name in ("on_knock", "on_control", "on_no_stream", "poll"):
        call = getattr(node.engine, name)

        def shielded(*args: object, call: object = call) -> object:
            try:
                return call(*args)  # type: ignore[operator]
            except FAILURES:
                return node.engine._take_actions()

        monkeypatch.setattr(node.engine, name, shielded)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_a_member_says_raises_or_stops_the_others(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    net = town()
    hostile = [Hostile(net, name, rng) for name in "ah"]
    for one in hostile:
        shield(one.node, monkeypatch)
    for src, dst in (("a", "d"), ("a", "b"), ("h", "d"), ("b", "d"), ("d", "b")):
        net.send(src, dst, 1)
    net.run(3.0)
    for _ in range(STEPS):
        one = rng.choice(hostile)
        with suppress(*FAILURES):
            one.step()
        net.act(one.node, one.node.engine._take_actions())
        net.run(rng.choice([0.0, 0.001, 0.01, 0.2]))
        if rng.random() < 0.1:
            net.send(rng.choice("ah"), rng.choice("bed"), 2)
    for one in hostile:
        one.node.down = True
    net.run(1000.0)
    honest = [node for name, node in net.nodes.items() if name not in "ah"]
    for node in honest:
        assert not node.engine.circuits.building
        states = {circuit.state for circuit in node.engine.circuits.by_label.values()}
        assert states <= {CircuitState.UP}
    net.send("b", "d", 3)
    assert net.run(20.0, lambda: 3 in net.received("d"))
