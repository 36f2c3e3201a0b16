# SPDX-License-Identifier: Apache-2.0
"""Circuits at nodes that did not start them: relays and the far end (docs/protocol.md section 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from veilnet.contract import CIRCUIT_END, CIRCUIT_F_HS_GRACE, CIRCUIT_FORWARD, CIRCUIT_LOCAL, STATES
from veilnet.keyd import dataplane
from veilnet.keyd.core import RETRY_MAX, Core
from veilnet.keyd.create import Creator
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.keyd.peers import Peers
from veilnet.keyd.state import LEG, LegEvent, step
from veilnet.keyd.state import Leg as State
from veilnet.keyd.store import Kind, Record
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.handshake import Accepted, Answer, Mode, Repeated
from veilnet.protocol.knock import seal_body
from veilnet.protocol.messages import Create, Created, Destroy, Extend, Extended, Message, Ready, Refusal, Refused
from veilnet.protocol.session import Session

UNUSED_TIME: Final = 60.0
"""Seconds after which a circuit that was created and never used is taken for forgotten."""
LEGS_MAX: Final = STATES // 4
"""A link has a record, a stream up to three (its own, its circuit, its peer): there is always room for all of them."""


@dataclass(eq=False, slots=True)
class Leg:
    """`label` is ours, for what comes from the initiator's side; `out_label` the previous node's, for the way back.
    `next_label` is the next node's, `next_back` ours for what comes back from it."""

    link: Link
    label: int
    out_label: int
    create_id: int
    used: float
    state: State = State.LOCAL
    session: Session | None = None
    x_r: bytes = b""
    extend_id: int = 0
    next_link: Link | None = None
    next_label: int = 0
    next_back: int = 0
    stream: int = 0
    grace: bool = False
    seen: tuple[int, int] = (0, 0)


class Events:
    """`Streams` sets these."""

    def __init__(self) -> None:
        self.accepted: Callable[[Leg, Accepted], None] = lambda leg, accepted: None
        self.repeated: Callable[[Leg, bytes], None] = lambda leg, x_r: None
        self.stream_body: Callable[[int, bytes], None] = lambda stream, body: None
        self.failed: Callable[[Leg, str], None] = lambda leg, reason: None


class Legs:
    def __init__(self, core: Core, peers: Peers, links: Links, creator: Creator) -> None:
        self._core, self._peers, self._links, self._creator = core, peers, links, creator
        self.by_label: dict[int, Leg] = {}
        self.by_back: dict[int, Leg] = {}
        self._by_create: dict[tuple[Link, int], Leg] = {}
        self._numbers: Counter[bytes] = Counter()  # of legs, by the neighbour that they come from
        self.events = Events()

    # ---- link control --------------------------------------------------------------------------------------------

    def on_create(self, link: Link, message: Create) -> None:
        # CI1
        core, known = self._core, self._by_create.get((link, message.back_label))
        if known is not None and known.create_id != message.id:
            self.drop(known, "leg_replaced", forward=True)
            known = None
        if known is None:
            if not self._room(link.peer):
                core.count("create_refused")
                self._links.send(link, Refused(message.id, Refusal.FULL))
                return
            known = Leg(link, core.take_label(), message.back_label, message.id, core.now)
            self._add(known)
            self.save(known)
            core.plane.put_circuit(known.label, self.desired(known))
        self._links.send(link, Created(message.id, known.label))

    def _room(self, peer: bytes) -> bool:
        """Whether `peer` gets one more. When there are no more for anybody, whoever has most gives one: one that leads
        nowhere yet, else the one that was not in use for longest."""
        # of all links together, or more of them would be a way around the limit
        free = self._core.settings.circuits_per_link - sum(len(link.labels) for link in self._links.of(peer))
        if free <= 0 or len(self.by_label) < LEGS_MAX:
            return free > 0
        greedy, most = self._numbers.most_common(1)[0]
        if self._numbers[peer] + 1 >= most:
            return False
        theirs = [leg for leg in self.by_label.values() if leg.link.peer == greedy]
        idlest = min(theirs, key=lambda leg: (leg.state is not State.LOCAL, leg.used))
        self.drop(idlest, "leg_crowded", forward=True, back=True)
        return True

    def on_extend(self, link: Link, message: Extend) -> None:
        leg = self.by_label.get(message.label)
        if leg is None or leg.link is not link:
            self._links.send(link, Refused(message.id, Refusal.BAD_LABEL))
            return
        self._extend(leg, message, lambda answer: self._links.send(link, answer), hop=False)

    # ---- extending -----------------------------------------------------------------------------------------------

    def _extend(self, leg: Leg, message: Extend, answer: Callable[[Message], None], *, hop: bool) -> None:
        if leg.extend_id == message.id:
            if leg.state is State.SPLICED:
                answer(Extended(message.id))
            return
        refusal = self._refusal(leg, message.node)
        if refusal is not None:
            self._core.count("extend_refused")
            answer(Refused(message.id, refusal))
            return
        leg.state = step(LEG, leg.state, LegEvent.EXTEND)
        leg.extend_id = message.id
        self._links.to(message.node, lambda link: self._next_link(leg, link, answer, hop))

    def _refusal(self, leg: Leg, node: bytes) -> Refusal | None:
        if leg.state is not State.LOCAL:
            return Refusal.BAD_LABEL
        if not self._core.serves("guardian") or node in (self._core.own.node_id, leg.link.peer):
            return Refusal.POLICY
        if self._core.drained():
            # CI6
            return Refusal.DRAINING
        if self._core.node(node) is None:
            return Refusal.UNKNOWN_NODE
        return None if self._core.may_link(node) else Refusal.POLICY

    def _next_link(self, leg: Leg, link: Link | None, answer: Callable[[Message], None], hop: bool) -> None:
        # CI3
        if leg.state is not State.EXTENDING:
            return
        if link is None:
            self._refuse(leg, Refusal.UNREACHABLE, answer)
            return
        if len(link.labels) >= self._core.settings.circuits_per_link:
            self._refuse(leg, Refusal.FULL, answer)
            return
        leg.next_back = self._core.take_label()
        self.by_back[leg.next_back] = leg
        self._place(leg, link)
        self._creator.start(
            link,
            leg.next_back,
            lambda new: self._place(leg, new),
            lambda created: self._next_created(leg, created, answer, hop),
            lambda: self._refuse(leg, Refusal.TIMEOUT, answer),
        )

    def _place(self, leg: Leg, link: Link) -> None:
        """It goes on over `link`."""
        if leg.next_link is not None:
            leg.next_link.labels.discard(leg.next_back)
        leg.next_link = link
        link.labels.add(leg.next_back)

    def _next_created(self, leg: Leg, created: object, answer: Callable[[Message], None], hop: bool) -> None:
        if not isinstance(created, Created):
            self._refuse(leg, Refusal.FULL, answer)
            return
        leg.next_label = created.label
        leg.state = step(LEG, leg.state, LegEvent.EXTENDED)
        self.save(leg)
        self._core.plane.put_circuit(leg.next_back, self.desired_back(leg))
        self._core.plane.put_circuit(leg.label, self.desired(leg))
        seen = self._core.plane.circuit_seen(leg.next_back)
        self._answer_extended(leg, answer, 0 if hop else None, seen)

    def _answer_extended(self, leg: Leg, answer: Callable[[Message], None], tries: int | None, seen: int) -> None:
        """In mode hop a repeat of the request no longer reaches us, because it is forwarded already: so the answer is
        repeated, until something comes back from the next node."""
        if leg.state is not State.SPLICED or self._core.plane.circuit_seen(leg.next_back) != seen:
            return
        answer(Extended(leg.extend_id))
        delay = self._core.retry_delay(tries or 0)
        if tries is not None and delay < RETRY_MAX / 2:
            self._core.timers.set(
                ("extended", leg.label),
                self._core.after(delay),
                lambda: self._answer_extended(leg, answer, tries + 1, seen),
            )

    def _refuse(self, leg: Leg, refusal: Refusal, answer: Callable[[Message], None]) -> None:
        answer(Refused(leg.extend_id, refusal))
        self._core.count("extend_refused")
        self._free_next(leg)
        leg.state = step(LEG, leg.state, LegEvent.REFUSED)
        leg.extend_id = 0

    def _free_next(self, leg: Leg) -> None:
        if leg.next_back:
            self._creator.cancel(leg.next_back)
            self.by_back.pop(leg.next_back, None)
            self._core.plane.remove_circuit(leg.next_back)
            self._core.labels.discard(leg.next_back)
        if leg.next_link is not None:
            leg.next_link.labels.discard(leg.next_back)
        leg.next_link, leg.next_label, leg.next_back = None, 0, 0

    # ---- bodies that end here ------------------------------------------------------------------------------------

    def send(self, leg: Leg, budget: int, bodies: list[bytes]) -> None:
        if leg.state is not State.DEAD:
            for body in bodies:
                self._links.send_body(leg.link, leg.out_label, budget, body)

    def _send_hop(self, leg: Leg, message: Message) -> None:
        if leg.session is not None:
            bodies = leg.session.seal(message, self._core.unix_ns)
            self.save(leg)
            self.send(leg, self._core.budget(), bodies)

    def on_body(self, leg: Leg, body: bytes) -> None:
        """RemoteError if it is nothing that we can open."""
        if leg.stream:
            try:
                self.events.stream_body(leg.stream, body)
                return
            except RemoteError:
                if not leg.grace:
                    raise
        if leg.session is not None:
            try:
                message = leg.session.open(body)
            except RemoteError:
                pass
            else:
                self.save(leg)
                if isinstance(message, Extend):
                    self._extend(leg, message, lambda answer: self._send_hop(leg, answer), hop=True)
                return
        self._handshake(leg, body)

    def _handshake(self, leg: Leg, body: bytes) -> None:
        keys, payload = self._peers.open_circuit_body(body)
        origin = leg.link.index.to_bytes(4, "little") + leg.label.to_bytes(4, "little")
        served = {"guardian": Mode.HOP, "conflux": Mode.STREAM}
        modes = tuple(mode for role, mode in served.items() if self._core.serves(role))
        result = self._peers.responder.receive(payload, origin, self._core.unix, modes)
        if isinstance(result, Answer):
            self.send(leg, self._core.budget(), [seal_body(keys, result.payload, self._core.rng)])
        elif isinstance(result, Repeated):
            if leg.session is not None and leg.x_r == result.x_r:
                self._send_hop(leg, Ready(0))
            elif leg.stream:
                self.events.repeated(leg, result.x_r)
        elif result.mode is Mode.STREAM and leg.state in (State.LOCAL, State.END):
            leg.used = self._core.now
            self.events.accepted(leg, result)
        elif leg.state is State.LOCAL:
            if leg.session is not None:
                leg.session.wipe()
            leg.session = Session(self._peers.provider, self._core.rng, result.secret, Mode.HOP, initiator=False)
            leg.x_r = result.x_r
            self._send_hop(leg, Ready(0))
        else:
            raise RemoteError(Reason.STATE, "hop handshake")

    def end_in(self, leg: Leg, stream: int) -> None:
        """Bodies on this label belong to `stream` from now on."""
        leg.state = step(LEG, leg.state, LegEvent.STREAM)
        leg.stream, leg.grace = stream, True
        self.save(leg)
        self._core.plane.put_circuit(leg.label, self.desired(leg))

        def over() -> None:
            leg.grace = False
            self._core.plane.put_circuit(leg.label, self.desired(leg))

        self._core.timers.set(("grace", leg.label), self._core.after(self._core.settings.hs_grace), over)

    # ---- end of life ---------------------------------------------------------------------------------------------

    def on_destroy(self, link: Link, label: int) -> bool:
        # CI5
        leg = self.by_label.get(label)
        if leg is not None and leg.link is link:
            self.drop(leg, "leg_destroyed", forward=True)
            return True
        leg = self.by_back.get(label)
        if leg is not None and leg.next_link is link:
            self.drop(leg, "leg_destroyed", back=True)
            return True
        return False

    def drop(self, leg: Leg, reason: str, *, forward: bool = False, back: bool = False) -> None:
        """Free a leg; `forward`, `back`: tell the next, the previous node."""
        if leg.state is State.DEAD:
            return
        core = self._core
        if leg.stream:
            self.events.failed(leg, reason)
        if forward and leg.next_link is not None and leg.next_label:
            self._links.send(leg.next_link, Destroy(leg.next_label))
        if back:
            self._links.send(leg.link, Destroy(leg.out_label))
        leg.state = step(LEG, leg.state, LegEvent.FAILED)
        core.store.drop(Kind.LEG, leg.label)
        core.timers.cancel(("grace", leg.label), ("extended", leg.label))
        self.by_label.pop(leg.label, None)
        self._numbers[leg.link.peer] -= 1
        self._by_create.pop((leg.link, leg.out_label), None)
        core.plane.remove_circuit(leg.label)
        core.labels.discard(leg.label)
        leg.link.labels.discard(leg.label)
        self._free_next(leg)
        if leg.session is not None:
            leg.session.wipe()
        core.count(reason)

    def link_down(self, link: Link) -> None:
        for label in list(link.labels):
            if label in self.by_label:
                self.drop(self.by_label[label], "leg_link_down", forward=True)
            elif label in self.by_back:
                self.drop(self.by_back[label], "leg_link_down", back=True)

    def tick(self) -> None:
        core = self._core
        for leg in list(self.by_label.values()):
            back = core.plane.circuit_seen(leg.next_back) if leg.next_back else 0
            seen = (core.plane.circuit_seen(leg.label), back)
            if seen != leg.seen:
                leg.seen, leg.used = seen, core.now
            limit = UNUSED_TIME if leg.state is State.LOCAL else core.settings.leg_idle
            if core.now - leg.used >= limit:
                self.drop(leg, "leg_idle", forward=True, back=True)

    # ---- what the maps should hold -------------------------------------------------------------------------------

    def desired(self, leg: Leg) -> dataplane.Circuit:
        if leg.state is State.SPLICED and leg.next_link is not None:
            return dataplane.Circuit(CIRCUIT_FORWARD, leg.link.index, leg.next_link.index, leg.next_label)
        if leg.state is State.END:
            flags = CIRCUIT_F_HS_GRACE if leg.grace else 0
            return dataplane.Circuit(CIRCUIT_END, leg.link.index, stream=leg.stream, flags=flags)
        return dataplane.Circuit(CIRCUIT_LOCAL, leg.link.index)

    def desired_back(self, leg: Leg) -> dataplane.Circuit:
        if leg.next_link is None:
            raise LocalError("leg without a next link")
        return dataplane.Circuit(CIRCUIT_FORWARD, leg.next_link.index, leg.link.index, leg.out_label)

    def _add(self, leg: Leg) -> None:
        self._core.labels.add(leg.label)
        leg.link.labels.add(leg.label)
        self._numbers[leg.link.peer] += 1
        self.by_label[leg.label] = self._by_create[leg.link, leg.out_label] = leg
        if leg.next_link is not None:
            self._core.labels.add(leg.next_back)
            leg.next_link.labels.add(leg.next_back)
            self.by_back[leg.next_back] = leg

    def save(self, leg: Leg) -> None:
        if leg.state is State.DEAD:
            return
        fields: dict[str, object] = {"l": leg.link.index, "o": leg.out_label, "c": leg.create_id}
        if leg.state is State.SPLICED and leg.next_link is not None:
            fields |= {"n": [leg.next_link.index, leg.next_label, leg.next_back], "e": leg.extend_id}
        if leg.stream:
            fields["x"] = leg.stream
        keep = leg.session is not None and leg.state in (State.LOCAL, State.EXTENDING)
        self._core.store.save(Kind.LEG, leg.label, fields, leg.session.to_bytes() if keep and leg.session else b"")

    def restore(self, records: dict[tuple[Kind, int], Record]) -> None:
        for (kind, label), (fields, blob) in records.items():
            if kind is not Kind.LEG:
                continue
            leg = self._restored(label, fields["l"], fields["o"], fields["c"])
            place = fields.get("n")
            if leg is None or (place and place[0] not in self._links.by_index):
                self._core.store.drop(kind, label)
                continue
            if place:
                leg.next_link, leg.next_label, leg.next_back = self._links.by_index[place[0]], place[1], place[2]
                leg.state, leg.extend_id = State.SPLICED, fields["e"]
            if "x" in fields:
                leg.state, leg.stream = State.END, fields["x"]
            if blob:
                leg.session = Session.from_bytes(self._peers.provider, self._core.rng, blob)
            self._add(leg)

    def _restored(self, label: int, link: int, out_label: int, create_id: int) -> Leg | None:
        held = self._links.by_index.get(link)
        return Leg(held, label, out_label, create_id, self._core.now) if held else None
