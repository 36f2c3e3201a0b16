# SPDX-License-Identifier: Apache-2.0
"""Circuits at their initiator: telescoping through Guardians to a peer Conflux (docs/protocol.md section 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from veilnet.contract import CIRCUIT_END, CIRCUIT_F_HS_GRACE, CIRCUIT_LOCAL
from veilnet.keyd import dataplane
from veilnet.keyd.core import Core
from veilnet.keyd.create import Creator
from veilnet.keyd.dial import Dial, Requests
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.keyd.peers import Peers
from veilnet.keyd.state import CIRCUIT, CircuitEvent, step
from veilnet.keyd.state import Circuit as State
from veilnet.keyd.store import Kind, Record
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.handshake import Mode, parse_kind
from veilnet.protocol.knock import KnockSchedule, open_body, seal_body
from veilnet.protocol.messages import Created, Destroy, Extend, Extended, Message, Refusal, Refused
from veilnet.protocol.session import Session

_serial = count()


@dataclass(eq=False, slots=True)
class Circuit:
    """`path`: node ids of first hop to peer. `label` is ours, for the way back, `out_label` the first hop's."""

    path: tuple[bytes, ...]
    number: int = field(default_factory=lambda: next(_serial))
    state: State = State.LINK
    link: Link | None = None
    label: int = 0
    out_label: int = 0
    at: int = 0
    """Place in `path` of the newest node."""
    session: Session | None = None
    """With the newest node, in mode hop."""
    dial: Dial | None = None
    slots: list[int] = field(default_factory=list)
    """Knock slots that this handshake was sent under, newest first."""
    request: int = 0
    stream: int = 0
    grace: bool = False


class Events:
    """What happens to a circuit that somebody has to know; `Streams` sets these."""

    def __init__(self) -> None:
        self.confirmed: Callable[[Circuit, bytes], None] = lambda circuit, secret: None
        self.stream_body: Callable[[int, bytes], None] = lambda stream, body: None
        self.failed: Callable[[Circuit, str, bytes | None], None] = lambda circuit, reason, blamed: None


class Circuits:
    def __init__(self, core: Core, peers: Peers, requests: Requests, links: Links, creator: Creator) -> None:
        self._core, self._peers, self._requests, self._links = core, peers, requests, links
        self._creator = creator
        self.by_label: dict[int, Circuit] = {}
        self.building: set[Circuit] = set()
        self.events = Events()

    def build(self, path: tuple[bytes, ...]) -> Circuit:
        circuit = Circuit(path)
        self.building.add(circuit)
        timeout = self._core.after(self._core.settings.build_timeout)
        self._core.timers.set(
            ("build", circuit.number), timeout, lambda: self.fail(circuit, "circuit_build_timeout", None)
        )
        self._links.to(path[0], lambda link: self._linked(circuit, link))
        return circuit

    # ---- telescoping ---------------------------------------------------------------------------------------------

    def _linked(self, circuit: Circuit, link: Link | None) -> None:
        if circuit.state is not State.LINK:
            return
        if link is None:
            self.fail(circuit, "circuit_no_link", circuit.path[0])
            return
        circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.LINKED)
        circuit.label = self._core.take_label()
        self.by_label[circuit.label] = circuit
        self._place(circuit, link)
        self._creator.start(
            link,
            circuit.label,
            lambda new: self._place(circuit, new),
            lambda answer: self._created(circuit, answer),
            lambda: self.fail(circuit, "circuit_create_timeout", circuit.path[0]),
        )

    def _place(self, circuit: Circuit, link: Link) -> None:
        """Its way back ends on `link`."""
        if circuit.link is not None:
            circuit.link.labels.discard(circuit.label)
        circuit.link = link
        link.labels.add(circuit.label)
        self._core.plane.put_circuit(circuit.label, dataplane.Circuit(CIRCUIT_LOCAL, link.index))

    def _created(self, circuit: Circuit, answer: object) -> None:
        if not isinstance(answer, Created):
            self.fail(circuit, "circuit_refused", circuit.path[0])
            return
        circuit.out_label = answer.label
        self._arrived(circuit)

    def _arrived(self, circuit: Circuit) -> None:
        """The circuit now ends at `path[at]`."""
        last = circuit.at == len(circuit.path) - 1
        circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.AT_PEER if last else CircuitEvent.AT_RELAY)
        if circuit.state is State.EXTEND:
            self._extend(circuit)
        else:
            self._dial(circuit, Mode.STREAM if last else Mode.HOP)

    def _extend(self, circuit: Circuit) -> None:
        # CI2
        target = circuit.path[circuit.at + 1]

        def ask(request: int) -> None:
            if circuit.session is None and circuit.link is not None:
                self._links.send(circuit.link, Extend(request, circuit.out_label, target))
            else:
                self._send_hop(circuit, Extend(request, 0, target))

        circuit.request = self._requests.start(
            ask,
            lambda answer: self._extended(circuit, answer),
            lambda: self.fail(circuit, "circuit_extend_timeout", target),
        )

    def _extended(self, circuit: Circuit, answer: object) -> None:
        if not isinstance(answer, Extended):
            # CI6
            drained = isinstance(answer, Refused) and answer.reason == Refusal.DRAINING
            self.fail(circuit, "circuit_refused", circuit.path[circuit.at + (not drained)])
            return
        self._drop_session(circuit)
        circuit.at += 1
        self._arrived(circuit)

    def _dial(self, circuit: Circuit, mode: Mode) -> None:
        # CI4
        node = circuit.path[circuit.at]
        initiator = self._peers.initiator(mode, node)
        if initiator is None:
            self.fail(circuit, "circuit_node_gone", None)
            return
        circuit.slots = []
        circuit.dial = Dial(
            self._core,
            initiator,
            lambda payload: self._send_handshake(circuit, payload),
            lambda secret: self._confirmed(circuit, secret),
            lambda: self.fail(circuit, "circuit_handshake_timeout", node if mode is Mode.HOP else None),
        )
        circuit.dial.start()

    def _confirmed(self, circuit: Circuit, secret: bytes) -> None:
        if circuit.state is State.HOP:
            circuit.session = Session(self._peers.provider, self._core.rng, secret, Mode.HOP, initiator=True)
            return
        circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.REPLIED)
        self.events.confirmed(circuit, secret)

    def ready(self, circuit: Circuit) -> None:
        """The peer's first control message has opened: the stream is up."""
        circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.READY)
        if circuit.dial is not None:
            circuit.dial.close()
        self.building.discard(circuit)
        self._core.timers.cancel(("build", circuit.number))
        if circuit.link is not None:
            fields = {
                "l": circuit.link.index,
                "o": circuit.out_label,
                "x": circuit.stream,
                "p": [n.hex() for n in circuit.path],
            }
            self._core.store.save(Kind.CIRCUIT, circuit.label, fields)

    # ---- bodies on the way ---------------------------------------------------------------------------------------

    def send(self, circuit: Circuit, budget: int, bodies: list[bytes]) -> None:
        if circuit.link is not None and circuit.state is not State.DEAD:
            for body in bodies:
                self._links.send_body(circuit.link, circuit.out_label, budget, body)

    def _send_hop(self, circuit: Circuit, message: Message) -> None:
        if circuit.session is not None:
            self.send(circuit, self._core.budget(), circuit.session.seal(message, self._core.unix_ns))

    def _send_handshake(self, circuit: Circuit, payload: bytes) -> None:
        # KN5
        schedule = self._peers.circuit_schedule
        slot = KnockSchedule.slot_of(self._core.unix)
        if slot not in circuit.slots:
            circuit.slots = [slot, *circuit.slots[:1]]
        self.send(circuit, self._core.budget(), [seal_body(schedule.knock_keys(slot), payload, self._core.rng)])

    def on_body(self, circuit: Circuit, body: bytes) -> None:
        """What came back on our label. RemoteError if it is nothing that we wait for."""
        if circuit.stream:
            try:
                self.events.stream_body(circuit.stream, body)
                return
            except RemoteError:
                if circuit.state is not State.CONFIRM:
                    raise
        if circuit.session is not None:
            try:
                message = circuit.session.open(body)
            except RemoteError:
                if circuit.state is not State.HOP:
                    raise
            else:
                self._hop_message(circuit, message)
                return
        self._on_reply(circuit, body)

    def _hop_message(self, circuit: Circuit, message: Message | None) -> None:
        if circuit.state is State.HOP:
            if circuit.dial is not None:
                circuit.dial.close()
            circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.SESSION)
            self._extend(circuit)
        if isinstance(message, Extended | Refused):
            self._requests.answer(message.id, message)

    def _on_reply(self, circuit: Circuit, body: bytes) -> None:
        if circuit.dial is None or circuit.dial.closed:
            raise RemoteError(Reason.STATE, "body on a circuit")
        schedule = self._peers.circuit_schedule
        error = RemoteError(Reason.KIND, "body on a circuit")
        for slot in circuit.slots:
            payload = open_body(schedule.reply_keys(slot), body)
            try:
                parse_kind(payload)
                circuit.dial.receive(payload)
                return
            except RemoteError as refused:
                error = refused
        raise error

    # ---- end of life ---------------------------------------------------------------------------------------------

    def fail(self, circuit: Circuit, reason: str, blamed: bytes | None, *, destroy: bool = True) -> None:
        """Take the circuit down and tell `events.failed`; `blamed` is the node that seems to be at fault."""
        if circuit.state is State.DEAD:
            return
        core = self._core
        # while maps and labels still stand: traffic has to leave first
        self.events.failed(circuit, reason, blamed)
        if destroy and circuit.out_label and circuit.link is not None:
            self._links.send(circuit.link, Destroy(circuit.out_label))
        circuit.state = step(CIRCUIT, circuit.state, CircuitEvent.FAILED)
        self.building.discard(circuit)
        core.timers.cancel(("build", circuit.number), ("grace", circuit.label))
        self._requests.cancel(circuit.request)
        self._creator.cancel(circuit.label)
        if circuit.dial is not None:
            circuit.dial.close()
        self._drop_session(circuit)
        if circuit.label:
            core.store.drop(Kind.CIRCUIT, circuit.label)
            self.by_label.pop(circuit.label, None)
            core.plane.remove_circuit(circuit.label)
            core.labels.discard(circuit.label)
        if circuit.link is not None:
            circuit.link.labels.discard(circuit.label)
        core.count(reason)
        core.event("circuit_down", peer=core.name(circuit.path[-1]), reason=reason, blamed=blamed and core.name(blamed))

    def _drop_session(self, circuit: Circuit) -> None:
        if circuit.session is not None:
            circuit.session.wipe()
            circuit.session = None

    def link_down(self, link: Link) -> None:
        for label in list(link.labels):
            circuit = self.by_label.get(label)
            if circuit is not None:
                self.fail(circuit, "circuit_link_down", link.peer, destroy=False)

    # ---- what the maps should hold -------------------------------------------------------------------------------

    def desired(self, circuit: Circuit) -> dataplane.Circuit:
        if circuit.link is None:
            raise LocalError("circuit without a link")
        if not circuit.stream:
            return dataplane.Circuit(CIRCUIT_LOCAL, circuit.link.index)
        flags = CIRCUIT_F_HS_GRACE if circuit.grace else 0
        return dataplane.Circuit(CIRCUIT_END, circuit.link.index, stream=circuit.stream, flags=flags)

    def end_in(self, circuit: Circuit, stream: int) -> None:
        """Bodies on our label belong to `stream` from now on; for a while repeats of the handshake may still come."""
        circuit.stream, circuit.grace = stream, True
        self._core.plane.put_circuit(circuit.label, self.desired(circuit))

        def over() -> None:
            circuit.grace = False
            self._core.plane.put_circuit(circuit.label, self.desired(circuit))

        self._core.timers.set(("grace", circuit.label), self._core.after(self._core.settings.hs_grace), over)

    def restore(self, records: dict[tuple[Kind, int], Record]) -> None:
        for (kind, label), (fields, _) in records.items():
            if kind is not Kind.CIRCUIT:
                continue
            link = self._links.by_index.get(fields["l"])
            if link is None:
                self._core.store.drop(kind, label)
                continue
            path = tuple(bytes.fromhex(node) for node in fields["p"])
            circuit = Circuit(path, state=State.UP, link=link, label=label, out_label=fields["o"], at=len(path) - 1)
            circuit.stream = fields["x"]
            self._core.labels.add(label)
            link.labels.add(label)
            self.by_label[label] = circuit
