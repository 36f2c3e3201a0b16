# SPDX-License-Identifier: Apache-2.0
"""Streams: end-to-end sessions, the packets that wait for them, the overlay routes that lead into them."""

from __future__ import annotations

from typing import Any

from veilnet.contract import PEER_SELF, STREAM_UP
from veilnet.keyd.budget import Budget
from veilnet.keyd.circuits import Circuit, Circuits
from veilnet.keyd.core import Core, Inject
from veilnet.keyd.demand import Builder
from veilnet.keyd.dial import Requests
from veilnet.keyd.legs import Leg, Legs
from veilnet.keyd.liveness import Liveness
from veilnet.keyd.networks import Networks
from veilnet.keyd.peers import Peers
from veilnet.keyd.rekey import Rekeying
from veilnet.keyd.store import Kind, Record
from veilnet.keyd.stream import Done, Stream, StreamSlots, host_network
from veilnet.protocol.errors import Reason, RemoteError
from veilnet.protocol.handshake import Accepted, Mode
from veilnet.protocol.messages import Close, Message, Ping, Pong, Ready, Rekey, Rekeyed
from veilnet.protocol.networks import IpNetwork
from veilnet.protocol.session import Session

CLOSE_TRIES = 4
PING_TRIES = 4
STREAMS_PER_PEER = 8
"""As LINKS_PER_PEER: without a limit one member could take all streams of a node."""
ACCEPT_RATE, ACCEPT_BURST = 1.0, 32
"""Streams that one peer makes with us, as for links."""


class Streams:
    def __init__(self, core: Core, peers: Peers, requests: Requests, circuits: Circuits, legs: Legs) -> None:
        self._core, self._peers, self._requests = core, peers, requests
        self._circuits, self._legs = circuits, legs
        self.by_index: dict[int, Stream] = {}
        self._accepts = Budget(ACCEPT_RATE, ACCEPT_BURST)
        self.builder = Builder(core, peers, circuits)
        self.networks = Networks(core, peers, self._may_route, self._best_index)
        circuits.events.confirmed = self._confirmed
        circuits.events.stream_body = legs.events.stream_body = self.on_control
        circuits.events.failed = self._circuit_failed
        legs.events.accepted = self._accepted
        legs.events.repeated = self._repeated
        legs.events.failed = lambda leg, reason: self._carrier_failed(leg.stream, reason)

    # ---- inputs --------------------------------------------------------------------------------------------------

    def on_no_stream(self, number: int, packet: bytes) -> None:
        """An inner packet whose route has no stream."""
        peer = self._peers.node_of(number)
        if peer is None or self._core.node(peer) is None:
            self._core.count("packet_unknown_peer")
            return
        if not self._core.may_talk(peer):
            self._core.count("dial_policy")
            return
        if self.best(peer) is not None:
            # it was under way when the stream came up
            self._set_routes(peer)
            self._core.actions.append(Inject(packet))
            return
        self.builder.queue.put(peer, packet)
        self.builder.want(peer)

    def ping(self, peer: bytes, done: Done, *, again: bool = True) -> None:
        """Round trip to a peer over a stream, made for it if need be, if one does not answer over a second one too;
        `done` gets whether it answered."""
        stream = self.best(peer)
        if stream is None:
            self.builder.want(peer, lambda up: self.ping(peer, done) if up else done(False))
            return

        def failed() -> None:
            if again:
                self.builder.detour(stream, lambda up: self.ping(peer, done, again=False) if up else done(False))
            else:
                done(False)

        self._requests.start(
            lambda request: self.send(stream, Ping(request)), lambda _: done(True), failed, tries=PING_TRIES
        )

    def on_control(self, index: int, body: bytes) -> None:
        """Body with lane 255. RemoteError if it is not one of the stream's session."""
        stream = self.by_index.get(index)
        if stream is None:
            raise RemoteError(Reason.STATE, "control on a stream that is gone")
        try:
            message = stream.session.open(body)
        finally:
            self.save(stream)
        if not stream.ready and isinstance(stream.carrier, Circuit):
            self._circuits.ready(stream.carrier)
            self._suspect(stream.peer)
            self._went_up(stream)
        if stream.life is not None:
            stream.life.heard()
        if stream.rekeying is not None:
            stream.rekeying.after_open()
        if message is not None:
            self._handle(stream, message)

    def _handle(self, stream: Stream, message: Message) -> None:
        if isinstance(message, Ping):
            self.send(stream, Pong(message.id))
        elif isinstance(message, Pong):
            self._requests.answer(message.id, message)
        elif isinstance(message, Rekey) and stream.rekeying is not None:
            stream.rekeying.on_rekey(message)
        elif isinstance(message, Rekeyed) and stream.rekeying is not None:
            stream.rekeying.on_rekeyed(message)
        elif isinstance(message, Close):
            self._on_close(stream)

    # ---- coming up -----------------------------------------------------------------------------------------------

    def _install(self, carrier: Circuit | Leg, peer: bytes, session: Session) -> Stream:
        """Keys, then the stream, then the label that leads into it."""
        core = self._core
        stream = Stream(core.take_stream(), peer, carrier, session, core.budget(), core.now)
        self.by_index[stream.index] = stream
        StreamSlots(core, stream.index).install(session.keys())
        core.plane.select_stream_tx(stream.index, 0)
        core.plane.put_stream(
            stream.index,
            peer=self._peers.record(peer),
            out_link=carrier.link.index if carrier.link else 0,
            out_label=carrier.out_label,
            budget=stream.budget,
            rx_hp=session.rx_hp,
            tx_hp=session.tx_hp,
        )
        if isinstance(carrier, Circuit):
            self._circuits.end_in(carrier, stream.index)
        else:
            self._legs.end_in(carrier, stream.index)
        return stream

    def _confirmed(self, circuit: Circuit, secret: bytes) -> None:
        session = Session(self._peers.provider, self._core.rng, secret, Mode.STREAM, initiator=True)
        self._install(circuit, circuit.path[-1], session)

    def _accepted(self, leg: Leg, accepted: Accepted) -> None:
        if accepted.peer_id is None:
            return
        if not self._accepts.take(accepted.peer_id, self._core.now):
            raise RemoteError(Reason.BUDGET, "streams of one peer")
        if leg.stream:
            self._remove(self.by_index[leg.stream])
        held = self._suspect(accepted.peer_id)
        if len(held) >= STREAMS_PER_PEER:
            self.drop(max(held, key=self._rank), "stream_crowded")
        session = Session(self._peers.provider, self._core.rng, accepted.secret, Mode.STREAM, initiator=False)
        stream = self._install(leg, accepted.peer_id, session)
        stream.x_r = accepted.x_r
        self._send_ready(stream)
        self._went_up(stream)

    def _suspect(self, peer: bytes) -> list[Stream]:
        """The streams with `peer` that are up, before one more is: they are asked whether they still lead there."""
        held = [stream for stream in self.by_index.values() if stream.peer == peer and stream.ready]
        for stream in held:
            if stream.life is not None:
                stream.life.suspect()
        return held

    def _repeated(self, leg: Leg, x_r: bytes) -> None:
        stream = self.by_index.get(leg.stream)
        if stream is not None and stream.x_r == x_r:
            self._send_ready(stream)

    def _send_ready(self, stream: Stream) -> None:
        self.send(stream, Ready(stream.session.epoch))

    def _went_up(self, stream: Stream, restored: dict[str, Any] | None = None) -> None:
        core = self._core
        stream.ready, stream.used = True, core.now
        stream.life = Liveness(core, lambda: self._ping(stream), restarted=restored is not None)
        stream.rekeying = Rekeying(
            core,
            self._requests,
            ("stream", stream.index),
            stream.session,
            peer=stream.peer,
            slots=StreamSlots(core, stream.index),
            send=lambda message: self.send(stream, message),
            save=lambda: self.save(stream),
        )
        if restored is not None:
            stream.rekeying.restore(restored)
        self.save(stream)
        if restored is None:
            self._serve(stream)

    def _serve(self, stream: Stream) -> None:
        self._set_routes(stream.peer)
        waited = self.builder.up(stream.peer)
        self._core.event(
            "stream_up",
            peer=self._core.name(stream.peer),
            stream=stream.index,
            initiator=stream.initiator,
            first_packet_ms=waited and round(waited * 1000, 3),
        )
        for packet in self.builder.queue.take(stream.peer):
            self._core.actions.append(Inject(packet))
        self.builder.tell(stream.peer)

    # ---- routes --------------------------------------------------------------------------------------------------

    def best(self, peer: bytes) -> Stream | None:
        """The stream to send on; both ends choose the same of several (see `Links.best`)."""
        up = [s for s in self.by_index.values() if s.peer == peer and s.ready and not s.closing]
        return min(up, key=self._rank) if up else None

    def _best_index(self, peer: bytes) -> int:
        best = self.best(peer)
        return best.index if best else 0

    def _rank(self, stream: Stream) -> tuple[bool, bytes, float]:
        doubtful = stream.life is not None and stream.life.suspected
        return doubtful, self._core.own.node_id if stream.initiator else stream.peer, -stream.since

    def desired_routes(self) -> dict[IpNetwork, tuple[int, int]]:
        """network → (peer number, stream) for every Conflux of the directory, us included."""
        core, routes = self._core, dict[IpNetwork, tuple[int, int]]()
        for node_id, node in core.directory.nodes.items():
            own = node_id == core.own.node_id and "conflux" in node.roles
            if own or self._may_route(node_id):
                target = (PEER_SELF, 0) if own else (self._peers.number(node_id), self._best_index(node_id))
                routes |= dict.fromkeys(map(host_network, core.overlay_of(node)), target)
        return routes

    def _may_route(self, peer: bytes) -> bool:
        node = self._core.node(peer)
        other = peer != self._core.own.node_id
        return other and node is not None and "conflux" in node.roles and self._core.may_talk(peer)

    def _set_routes(self, peer: bytes) -> None:
        node, stream = self._core.node(peer), self._best_index(peer)
        if node is None or not self._may_route(peer):
            return
        for address in self._core.overlay_of(node):
            self._core.plane.put_route(host_network(address), peer=self._peers.number(peer), stream=stream)
        self.networks.follow(peer)

    # ---- sending -------------------------------------------------------------------------------------------------

    def send(self, stream: Stream, message: Message) -> None:
        """End-to-end control."""
        bodies = stream.session.seal(message, self._core.unix_ns)
        self.save(stream)
        if isinstance(stream.carrier, Circuit):
            self._circuits.send(stream.carrier, stream.budget, bodies)
        else:
            self._legs.send(stream.carrier, stream.budget, bodies)

    def _ping(self, stream: Stream) -> None:
        sent = self._core.now

        def answered(_: object) -> None:
            stream.rtt_ms = (self._core.now - sent) * 1000

        self._requests.start(lambda request: self.send(stream, Ping(request)), answered, lambda: None, tries=1)

    # ---- going down ----------------------------------------------------------------------------------------------

    def close(self, stream: Stream, reason: str) -> None:
        """Agree with the peer that nothing more comes, then take the stream down: no packet is under way then."""
        if stream.closing > CLOSE_TRIES:
            self.drop(stream, reason)
            return
        stream.closing += 1
        self._set_routes(stream.peer)
        delay = self._core.retry_delay(stream.closing - 1)
        self._core.timers.set(("close", stream.index), self._core.after(delay), lambda: self.close(stream, reason))
        self.send(stream, Close())

    def _on_close(self, stream: Stream) -> None:
        if stream.initiator and stream.closing:
            self.drop(stream, "stream_closed")
            return
        stream.closing = max(stream.closing, 1)
        self._set_routes(stream.peer)
        self.send(stream, Close())

    def drop(self, stream: Stream, reason: str) -> None:
        """Take a stream and its carrier down, both ways."""
        if isinstance(stream.carrier, Circuit):
            self._circuits.fail(stream.carrier, reason, None)
        else:
            self._legs.drop(stream.carrier, reason, back=True)

    def _circuit_failed(self, circuit: Circuit, reason: str, blamed: bytes | None) -> None:
        self.builder.failed(circuit, reason, blamed)
        self._carrier_failed(circuit.stream, reason)

    def _carrier_failed(self, index: int, reason: str) -> None:
        stream = self.by_index.get(index)
        if stream is not None:
            self._core.event("stream_down", peer=self._core.name(stream.peer), stream=index, reason=reason)
            self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        """Routes first, so that no packet goes into a stream that is gone; then the record, then the map entry."""
        core = self._core
        del self.by_index[stream.index]
        if stream.ready:
            self._set_routes(stream.peer)
        core.store.drop(Kind.STREAM, stream.index)
        core.timers.cancel(("close", stream.index))
        if stream.rekeying is not None:
            stream.rekeying.close()
        core.plane.remove_stream(stream.index)
        core.streams.discard(stream.index)
        stream.session.wipe()

    def forget_peers(self) -> None:
        self._peers.keep({stream.peer for stream in self.by_index.values()}, self._core.directory.nodes)

    def tick(self) -> None:
        for stream in list(self.by_index.values()):
            if stream.life is not None and stream.rekeying is not None and stream.index in self.by_index:
                self._tick(stream, stream.life, stream.rekeying)

    def _tick(self, stream: Stream, life: Liveness, rekeying: Rekeying) -> None:
        core = self._core
        stats = core.plane.stream_stats(stream.index)
        seen = (stats.rx_seen, stats.tx_seen)
        life.watch(stats)
        if seen != stream.seen:
            stream.seen, stream.used = seen, core.now
        idle = core.now - stream.used
        if core.node(stream.peer) is None:
            self.drop(stream, "stream_peer_gone")
        elif not core.may_talk(stream.peer):
            self.drop(stream, "stream_policy")
        elif not life.check():
            self.drop(stream, "stream_dead")
        elif rekeying.exhausted:
            self.drop(stream, "stream_exhausted")
        elif stream.closing:
            return
        elif stream.initiator and idle >= core.settings.stream_idle:
            self.close(stream, "stream_idle")
        elif idle >= core.settings.supersede_grace and stream.initiator and self.best(stream.peer) is not stream:
            self.close(stream, "stream_superseded")
        else:
            rekeying.poll()
            if life.quiet and self.best(stream.peer) is stream:
                self.builder.detour(stream)

    # ---- restart -------------------------------------------------------------------------------------------------

    def save(self, stream: Stream) -> None:
        if stream.rekeying is None or stream.index not in self.by_index:
            return
        fields = {
            "p": stream.peer.hex(),
            "c": stream.carrier.label,
            "i": stream.initiator,
            "b": stream.budget,
            **stream.rekeying.fields(),
        }
        self._core.store.save(Kind.STREAM, stream.index, fields, stream.session.to_bytes())

    def restore(self, records: dict[tuple[Kind, int], Record]) -> None:
        """Adopt streams whose carrier and map entry are there; carriers without a stream go."""
        for (kind, index), (fields, blob) in records.items():
            if kind is Kind.STREAM:
                self._restore(index, fields, blob)
        for circuit in list(self._circuits.by_label.values()):
            if circuit.stream not in self.by_index:
                self._circuits.fail(circuit, "circuit_not_adopted", None)
        for leg in list(self._legs.by_label.values()):
            if leg.stream and leg.stream not in self.by_index:
                leg.stream = 0
                self._legs.drop(leg, "leg_not_adopted", back=True)

    def _restore(self, index: int, fields: dict[str, Any], blob: bytes) -> None:
        core, label = self._core, int(fields["c"])
        carrier: Circuit | Leg | None
        carrier = self._circuits.by_label.get(label) if fields["i"] else self._legs.by_label.get(label)
        up = core.plane.stream_stats(index).state == STREAM_UP
        if carrier is None or carrier.stream != index or not up:
            core.store.drop(Kind.STREAM, index)
            return
        session = Session.from_bytes(self._peers.provider, core.rng, blob)
        stream = Stream(index, bytes.fromhex(fields["p"]), carrier, session, fields["b"], core.now)
        core.streams.add(index)
        self.by_index[index] = stream
        stats = core.plane.stream_stats(index)
        stream.seen = (stats.rx_seen, stats.tx_seen)
        self._went_up(stream, fields)
        core.count("stream_adopted")
