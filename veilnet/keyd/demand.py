# SPDX-License-Identifier: Apache-2.0
"""Streams that are wanted: which path to try, when to try again, when to give up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from veilnet.keyd.circuits import Circuit, Circuits
from veilnet.keyd.core import Core
from veilnet.keyd.peers import Peers
from veilnet.keyd.state import Circuit as State
from veilnet.keyd.stream import Demand, Done, Stream
from veilnet.keyd.waiting import PacketQueue
from veilnet.protocol.paths import choose_path

SHARED_BLAME: Final = 0.5
"""Penalty of each Guardian of a path that failed without anyone to blame; who is to blame gets 1."""
BACKOFF_MAX: Final = 30.0
WANTED: Final = frozenset({"stream_idle", "stream_superseded", "stream_closed", "circuit_superseded"})
"""Ends of a circuit that are nobody's fault."""


class Builder:
    def __init__(self, core: Core, peers: Peers, circuits: Circuits) -> None:
        self._core, self._peers, self._circuits = core, peers, circuits
        self._demands: dict[bytes, Demand] = {}
        self._penalties: dict[bytes, tuple[float, float]] = {}
        self.queue = PacketQueue(lambda: core.count("packet_queue_full"))
        self.first_packet_ms: float | None = None

    def want(self, peer: bytes, done: Done | None = None) -> None:
        demand = self._demands.get(peer)
        if demand is None:
            demand = self._demands[peer] = Demand(self._core.now)
            if done is not None:
                demand.waiters.append(done)
            self._try(peer)
        elif done is not None:
            demand.waiters.append(done)

    def detour(self, stream: Stream, done: Done | None = None) -> None:
        """What we send on it is not answered: want another beside it, around its Guardians if we know them."""
        if stream.peer not in self._demands:
            self._core.count("stream_detour")
            for node in stream.carrier.path[1:-1] if isinstance(stream.carrier, Circuit) else ():
                self._punish(node, SHARED_BLAME)
        self.want(stream.peer, done)

    def penalties(self) -> Mapping[bytes, float]:
        """By node id, fading: of two that failed the one whose failure is longer ago is the better guess."""
        self._penalties = {node: entry for node, entry in self._penalties.items() if entry[1] > self._core.now}
        whole = self._core.settings.penalty_time
        return {node: weight * (until - self._core.now) / whole for node, (weight, until) in self._penalties.items()}

    def _try(self, peer: bytes) -> None:
        demand, core = self._demands[peer], self._core
        path = choose_path(
            core.directory,
            core.own.node_id,
            peer,
            min_guardians=core.settings.min_guardians,
            penalties=self.penalties(),
        )
        if path is None or core.node(peer) is None or not core.may_talk(peer):
            core.count("stream_no_path" if path is None else "dial_policy")
            self._give_up(peer, demand)
            return
        demand.tries += 1
        demand.trying = True
        circuit = self._circuits.build(path)
        # a build that failed at once has been through `failed` already
        if demand.trying and circuit.state is not State.DEAD:
            demand.circuit = circuit

    def failed(self, circuit: Circuit, reason: str, blamed: bytes | None) -> None:
        """A circuit of ours is down. Whom we do not know to be at fault shares the blame."""
        if reason in WANTED:
            return
        if blamed is not None:
            self._punish(blamed, 1.0)
        else:
            for node in circuit.path[1:-1]:
                self._punish(node, SHARED_BLAME)
        demand = self._demands.get(circuit.path[-1])
        if demand is not None and demand.trying and demand.circuit in (circuit, None):
            demand.circuit, demand.trying = None, False
            self._again(circuit.path[-1], demand)

    def _punish(self, node: bytes, weight: float) -> None:
        held = self.penalties().get(node, 0.0)
        self._penalties[node] = max(held, weight), self._core.after(self._core.settings.penalty_time)

    def _again(self, peer: bytes, demand: Demand) -> None:
        core = self._core
        if demand.tries >= core.settings.build_tries:
            self._give_up(peer, demand)
            return
        delay = core.jitter(core.settings.retry_backoff * float(2 ** (demand.tries - 1)))
        core.timers.set(("again", peer), core.after(delay), lambda: self._try(peer))

    def _give_up(self, peer: bytes, demand: Demand) -> None:
        """Drop what waits, and don't try again at once, however many packets come."""
        core = self._core
        core.count("stream_build_failed")
        for _ in self.queue.take(peer):
            core.count("packet_no_stream")
        core.event("stream_failed", peer=core.name(peer), tries=demand.tries)
        pause = core.jitter(min(core.settings.retry_backoff * float(2**demand.tries), BACKOFF_MAX))
        core.timers.set(("again", peer), core.after(pause), lambda: self._resume(peer))
        waiters, demand.waiters = demand.waiters, []
        for waiter in waiters:
            waiter(False)

    def _resume(self, peer: bytes) -> None:
        demand = self._demands.pop(peer)
        if demand.waiters or self.queue.holds(peer):
            self._demands[peer] = Demand(self._core.now, waiters=demand.waiters)
            self._try(peer)

    def up(self, peer: bytes) -> float | None:
        """A stream to `peer` is up. Seconds since it was wanted, if it was.

        A circuit of ours that is still short of its confirm is not needed any more; one that is past it will win or be
        superseded."""
        self._core.timers.cancel(("again", peer))
        demand = self._demands.get(peer)
        if demand is None:
            return None
        circuit, demand.circuit, demand.trying = demand.circuit, None, False
        waited = self._core.now - demand.since
        self.first_packet_ms = waited * 1000
        if circuit is not None and circuit.state not in (State.CONFIRM, State.UP, State.DEAD):
            self._circuits.fail(circuit, "circuit_superseded", None)
        return waited

    def tell(self, peer: bytes) -> None:
        """Call those who wait for a stream that is up now."""
        demand = self._demands.pop(peer, None)
        for waiter in demand.waiters if demand is not None else ():
            waiter(True)
