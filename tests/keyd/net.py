# SPDX-License-Identifier: Apache-2.0
"""Engines in memory: a wire with delay, loss, duplicates and reordering, one fake clock, real frames.

    conflux a ── guardian g1 ── guardian g2 ── guardian g3 ── conflux b

Each edge is its own /30 network, as between machines. Nothing sleeps; `Net.run` moves the clock from event to event.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from math import inf

from veilnet.keyd.core import (
    Action,
    EmitProbe,
    Event,
    Inject,
    NetworkChoice,
    Nic,
    NodeKeys,
    RouteNetworks,
    SendDatagram,
    Settings,
    Underlay,
)
from veilnet.keyd.dataplane import Addrs
from veilnet.keyd.engine import Engine
from veilnet.keyd.memory_plane import Control, Deliver, Emit, Knock, MemoryPlane, NoStream, Output
from veilnet.protocol.crypto import CryptographyProvider
from veilnet.protocol.directory import Directory, NodeView

START = 1_800_000_000.0
KNOCK_PORT = 4242
REALM = b"realm of a test."
FAST = Settings(tick=0.25, reconcile=1.0)
PROVIDER = CryptographyProvider()


@dataclass
class Wire:
    """What happens to a datagram. Chances are 0 to 1, delay in seconds."""

    delay: float = 0.002
    loss: float = 0.0
    duplicate: float = 0.0
    jitter: float = 0.0


@dataclass
class Node:
    name: str
    keys: NodeKeys
    view: NodeView
    underlay: Underlay
    plane: MemoryPlane
    rng: random.Random
    settings: Settings
    engine: Engine = field(init=False)
    delivered: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    down: bool = False
    """The machine is off: nothing in, nothing out."""
    redirects: bool = True
    """What this machine's NICs send by XDP redirect arrives."""
    stopped: bool = False
    """keyd is not running; the data plane is."""
    choice: NetworkChoice = field(default_factory=NetworkChoice)
    routed: RouteNetworks | None = None
    """What the engine last asked this host to route."""

    def boot(self, net: Net) -> None:
        """Start keyd, or start it again over what the data plane holds."""
        self.engine = Engine(
            self.keys,
            self.plane,
            self.rng.randbytes,
            self.underlay,
            settings=self.settings,
            provider=PROVIDER,
            networks=self.choice,
        )
        self.stopped = False
        net.act(self, self.engine.set_clock(net.now, net.now))
        net.act(self, self.engine.set_directory(net.directory, net.now))

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.engine.core.counters)


class Net:
    def __init__(
        self,
        nodes: dict[str, str],
        edges: Iterable[tuple[str, str]],
        *,
        seed: int = 1,
        settings: Settings = FAST,
        wire: Wire | None = None,
        realm_settings: dict[str, int | str] | None = None,
        plane: type[MemoryPlane] = MemoryPlane,
    ) -> None:
        self._plane = plane
        self.rng = random.Random(seed)
        self.wire = wire or Wire()
        self.now = START
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self.sent = 0
        self.mangle: Callable[[str, bytes], bytes | None] = lambda name, payload: payload
        """Sees each datagram before the node of this name gets it; None loses it."""
        edges = list(edges)
        self._owner: dict[IPv4Address, Node] = {}
        nics: dict[str, list[Nic]] = {name: [] for name in nodes}
        for number, (one, other) in enumerate(edges):
            for host, name in ((1, one), (2, other)):
                interface = IPv4Interface((IPv4Address("10.0.0.0") + 4 * number + host, 30))
                nics[name].append(Nic(interface, len(nics[name]) + 1, 1500))
        self.nodes = {
            name: self._node(place, name, roles, nics[name], settings)
            for place, (name, roles) in enumerate(nodes.items())
        }
        for node in self.nodes.values():
            for nic in node.underlay.nics:
                self._owner[IPv4Address(nic.interface.ip)] = node
        self.directory = Directory(
            REALM,
            1,
            {"min_guardians": 0, **(realm_settings or {})},
            {node.view.node_id: node.view for node in self.nodes.values()},
            frozenset(frozenset({self.nodes[a].view.node_id, self.nodes[b].view.node_id}) for a, b in edges),
            int(START),
            int(START) + 10**7,
        )
        for node in self.nodes.values():
            node.boot(self)

    def _node(self, place: int, name: str, roles: str, nics: list[Nic], settings: Settings) -> Node:
        rng = random.Random(self.rng.getrandbits(64))
        keys = NodeKeys(rng.randbytes(16), rng.randbytes(32), rng.randbytes(64), rng.randbytes(32))
        view = NodeView(
            node_id=keys.node_id,
            name=name,
            roles=frozenset({"c": "conflux", "g": "guardian"}[role] for role in roles),
            ipv4=IPv4Address("100.64.0.1") + place,
            ipv6=IPv6Address("fd00::1") + place,
            x25519=PROVIDER.dh_key(keys.x25519).public,
            mlkem768=PROVIDER.kem_key(keys.mlkem768).public,
            knock_seed=keys.knock_seed,
            endpoints=tuple((nic.interface.ip, KNOCK_PORT) for nic in nics),
            not_after=int(START) + 10**7,
        )
        underlay = Underlay(tuple(nics), KNOCK_PORT)
        return Node(name, keys, view, underlay, self._plane(KNOCK_PORT), rng, settings)

    # ---- time ----------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (when, self._serial, what))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, at most `seconds` of it, or until `until` holds; tells whether it does."""
        end = self.now + seconds
        while until is None or not until():
            when = min([self._queue[0][0] if self._queue else inf, *self._deadlines()])
            if when > end:
                self.now = end
                return until is not None and until()
            self.now = max(self.now, when)
            if self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            else:
                self._poll()
        return True

    def _deadlines(self) -> list[float]:
        engines = [node.engine for node in self.nodes.values() if not node.stopped and not node.down]
        return [deadline for engine in engines if (deadline := engine.next_deadline()) is not None]

    def _poll(self) -> None:
        for node in self.nodes.values():
            deadline = None if node.stopped or node.down else node.engine.next_deadline()
            if deadline is not None and deadline <= self.now:
                self.wake(node)

    def wake(self, node: Node) -> None:
        self.act(node, node.engine.poll(self.now))

    # ---- wire ----------------------------------------------------------------------------------------------------

    def act(self, node: Node, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendDatagram):
                self._transmit(node, action.addrs, action.payload)
            elif isinstance(action, Inject):
                self.output(node, node.plane.send_inner(action.packet))
            elif isinstance(action, EmitProbe):
                payload = node.plane.seal(action.link, 0, 255, action.body)
                addrs = node.plane.link_addrs(action.link)
                if node.redirects and addrs is not None:
                    self._transmit(node, addrs, payload)
            elif isinstance(action, RouteNetworks):
                node.routed = action
            else:
                node.events.append(action)

    def output(self, node: Node, outputs: list[Output]) -> None:
        for out in outputs:
            if isinstance(out, Emit):
                self._transmit(node, out.addrs, out.payload)
            elif isinstance(out, Deliver):
                node.delivered.append(out.packet)
            elif not node.stopped:
                self.event(node, out)

    def event(self, node: Node, out: Knock | Control | NoStream) -> None:
        engine = node.engine
        if isinstance(out, Knock):
            self.act(node, engine.on_knock(out.addrs, out.slot, out.body, self.now))
        elif isinstance(out, Control):
            self.act(node, engine.on_control(out.link, out.label, out.stream, out.body, self.now))
        else:
            self.act(node, engine.on_no_stream(out.peer, out.packet, self.now))

    def _transmit(self, node: Node, addrs: Addrs, payload: bytes) -> None:
        self.sent += 1
        target = self._owner.get(IPv4Address(str(addrs.remote)))
        if node.down or target is None:
            return
        seen = Addrs(addrs.local, addrs.lport, addrs.remote, addrs.rport)
        copies = 2 if self.rng.random() < self.wire.duplicate else 1
        for _ in range(copies):
            if self.rng.random() >= self.wire.loss:
                when = self.now + self.wire.delay + self.rng.random() * self.wire.jitter
                self.at(when, lambda: self._arrive(target, seen, payload))

    def _arrive(self, node: Node, addrs: Addrs, payload: bytes) -> None:
        mangled = self.mangle(node.name, payload)
        if not node.down and mangled is not None:
            self.output(node, node.plane.receive(addrs, mangled))

    # ---- the hosts behind the Confluxes ----------------------------------------------------------------------------

    def send(self, src: str, dst: str, number: int) -> bytes:
        """An inner packet from the host at `src`, told apart by `number`."""
        node, to = self.nodes[src], self.nodes[dst]
        packet = inner_packet(node.view.ipv4, to.view.ipv4, number)
        self.output(node, node.plane.send_inner(packet))
        return packet

    def received(self, dst: str) -> list[int]:
        """Numbers of the packets that came out at `dst`, in order."""
        return [int.from_bytes(packet[20:28], "big") for packet in self.nodes[dst].delivered]

    def flow(self, src: str, dst: str, *, count: int, every: float, first: int = 0) -> range:
        """Schedule `count` packets."""
        for i in range(count):
            self.at(self.now + i * every, lambda i=i: self._flow(src, dst, first + i))  # type: ignore[misc]
        return range(first, first + count)

    def _flow(self, src: str, dst: str, number: int) -> None:
        self.send(src, dst, number)


def inner_packet(src: IPv4Address, dst: IPv4Address, number: int) -> bytes:
    """IPv4 header of protocol 253 (RFC 3692, experiments) and 8 bytes."""
    head = bytes([0x45, 0]) + (28).to_bytes(2, "big") + bytes(5) + bytes([253]) + bytes(2) + src.packed + dst.packed
    return head + number.to_bytes(8, "big")


LINE3 = [("a", "g1"), ("g1", "g2"), ("g2", "g3"), ("g3", "b")]
LINE3_NODES = {"a": "c", "g1": "g", "g2": "g", "g3": "g", "b": "c"}


def pair(**options: object) -> Net:
    """a ── b"""
    return Net({"a": "c", "b": "c"}, [("a", "b")], **options)  # type: ignore[arg-type]


def line3(**options: object) -> Net:
    """a ── g1 ── g2 ── g3 ── b"""
    return Net(LINE3_NODES, LINE3, **options)  # type: ignore[arg-type]


def diamond(**options: object) -> Net:
    """
    a ── g1 ─┬─ g2 ─┬─ g4 ── b
             └─ g3 ─┘
    """
    edges = [("a", "g1"), ("g1", "g2"), ("g1", "g3"), ("g2", "g4"), ("g3", "g4"), ("g4", "b")]
    roles = {"a": "c", "b": "c", "g1": "g", "g2": "g", "g3": "g", "g4": "g"}
    return Net(roles, edges, **options)  # type: ignore[arg-type]
