# SPDX-License-Identifier: Apache-2.0
"""What the parts of the engine share: identity, settings, data plane, timers, counters, actions.

Nothing here reads a clock or a random source: `now` is set by the engine at each input (seconds, never going back),
`wall` is what has to be added to it to get unix time, `rng` is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from veilnet.contract import LABELS, LINKS, STREAMS
from veilnet.keyd.budget import Budget
from veilnet.keyd.dataplane import Addrs, DataPlane, IpAddress
from veilnet.keyd.store import Store
from veilnet.keyd.timers import Timers
from veilnet.protocol.crypto import Rng
from veilnet.protocol.directory import Directory, NodeView
from veilnet.protocol.errors import LocalError
from veilnet.protocol.networks import IpNetwork

TRIES: Final = 8
RETRY_FIRST: Final = 0.25
RETRY_MAX: Final = 4.0
"""Handshake datagrams and requests are repeated after 250 ms, doubling to 4 s (section 6)."""

REKEY_RATE, REKEY_BURST = 2.0, 16
"""REKEYs of one peer, all its links and streams together. New keys in a slot that is in use wait for the programs that
run (some 10 ms each), in which nothing else is served."""


class ExhaustedError(LocalError):
    """Links, labels or streams of this node are all taken."""


@dataclass(frozen=True, slots=True)
class Nic:
    """An underlay address of this host."""

    interface: IPv4Interface | IPv6Interface
    ifindex: int
    mtu: int
    default: bool = False
    """Holds the default route: taken for remote addresses in no attached network."""


@dataclass(frozen=True, slots=True)
class Underlay:
    nics: tuple[Nic, ...]
    knock_port: int

    def nic_to(self, remote: IpAddress) -> Nic | None:
        """The NIC whose network holds `remote` with the longest prefix, else the default one of the same family."""
        same = [nic for nic in self.nics if nic.interface.version == remote.version]
        attached = [nic for nic in same if remote in nic.interface.network]
        if attached:
            return max(attached, key=lambda nic: nic.interface.network.prefixlen)
        return next((nic for nic in same if nic.default), None)

    def nic_of(self, local: IpAddress) -> Nic | None:
        return next((nic for nic in self.nics if nic.interface.ip == local), None)


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds and counts. The directory's settings of the same name (integers) replace the defaults."""

    rekey_interval: float = 120.0
    ping_interval: float = 10.0
    ping_missed: int = 3
    link_idle: float = 300.0
    stream_idle: float = 300.0
    leg_idle: float = 900.0
    """Silence after which a relay takes a circuit for forgotten; an end's pings come far more often."""
    build_timeout: float = 25.0
    build_tries: int = 5
    retry_backoff: float = 0.5
    penalty_time: float = 60.0
    min_guardians: int = 2
    circuits_per_link: int = 4096
    hs_grace: float = 10.0
    rx_grace: float = 20.0
    """RK5: life of the old receive slot."""
    supersede_grace: float = 5.0
    """A second stream or link between the same two nodes is given up after this much silence."""
    tick: float = 1.0
    reconcile: float = 5.0

    def under(self, directory: Mapping[str, int | str]) -> Settings:
        """A count may be 0; a time must not: what is due every 0 s is always due."""
        least = {item.name: int(isinstance(item.default, float)) for item in fields(self)}
        wanted = {name: value for name, value in directory.items() if name in least and isinstance(value, int)}
        return replace(self, **{name: value for name, value in wanted.items() if value >= least[name]})


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """UDP datagram for the raw socket: from (local, lport) to (remote, rport)."""

    addrs: Addrs
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Inject:
    """Inner IP packet to send into veil0 again."""

    packet: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EmitProbe:
    """Control body of `link` to send as the data plane would by XDP redirect."""

    link: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to log. Fields hold no secrets."""

    name: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RouteNetworks:
    """`accepted`: networks that the host is to route into veil0, these and no others; `own`: those behind it, for which
    it has to forward."""

    accepted: tuple[IpNetwork, ...]
    own: tuple[IpNetwork, ...]


Action = SendDatagram | Inject | EmitProbe | Event | RouteNetworks


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """What this host's owner says about networks. `accept`: use those behind other nodes. `offered`: what this node may
    be made the gateway of; an approved network has to lie in one of these. `overlay`: the realm's own ranges."""

    accept: bool = False
    overlay: tuple[IpNetwork, ...] = ()
    offered: tuple[IpNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """This node: its id and its static private keys (X25519 32 bytes, ML-KEM-768 seed 64, knock seed 32)."""

    node_id: bytes
    x25519: bytes = field(repr=False)
    mlkem768: bytes = field(repr=False)
    knock_seed: bytes = field(repr=False)


def next_free(taken: set[int], last: int, size: int) -> int:
    """The next index after `last` in 1 to size - 1 that is not taken, 0 if all are. One that was freed comes round as
    late as can be: another CPU may still be sealing with its old keys, and the ring may hold events of its old life."""
    indices = (1 + (last + step) % (size - 1) for step in range(size - 1))
    return next((index for index in indices if index not in taken), 0)


class Core:
    def __init__(
        self,
        own: NodeKeys,
        plane: DataPlane,
        rng: Rng,
        underlay: Underlay,
        settings: Settings,
        *,
        networks: NetworkChoice | None = None,
    ) -> None:
        self.own = own
        self.networks = networks or NetworkChoice()
        self.plane = plane
        self.rng = rng
        self.underlay = underlay
        self.base_settings = self.settings = settings
        self.store = Store(plane)
        self.timers = Timers()
        self.rekeys = Budget(REKEY_RATE, REKEY_BURST)
        self.counters: Counter[str] = Counter()
        self.actions: list[Action] = []
        self.directory = Directory(bytes(16), 0, {}, {}, frozenset())
        self.now = 0.0
        self.wall = 0.0
        self.links: set[int] = set()
        self.labels: set[int] = set()
        self.streams: set[int] = set()
        self._last_link = self._last_stream = 0

    @property
    def unix(self) -> float:
        return self.now + self.wall

    def node(self, node_id: bytes) -> NodeView | None:
        """A node that the directory knows and whose documents have not run out."""
        node = self.directory.nodes.get(node_id)
        return node if node is not None and node.not_after > self.unix else None

    def overlay_of(self, node: NodeView) -> tuple[IpAddress, ...]:
        """Its overlay addresses that lie in the realm's ranges as this host has joined them. Whatever the Master
        certifies since, it gives nobody an address of this host or of those that it talks to."""
        ranges, both = self.networks.overlay, (node.ipv4, node.ipv6)
        return tuple(address for address in both if not ranges or any(address in held for held in ranges))

    def may_link(self, peer: bytes) -> bool:
        """Whether the signed directory makes `peer` our neighbour."""
        return self.directory.may_link(self.own.node_id, peer)

    def may_talk(self, peer: bytes) -> bool:
        """Whether the signed policy lets us have a stream with `peer`."""
        return self.directory.may_talk(self.own.node_id, peer)

    def name(self, node_id: bytes) -> str:
        node = self.directory.nodes.get(node_id)
        return node.name if node else node_id.hex()

    def serves(self, role: str) -> bool:
        node = self.directory.nodes.get(self.own.node_id)
        return node is not None and role in node.roles

    def drained(self) -> bool:
        """Whether the realm wants no new circuits through us."""
        node = self.directory.nodes.get(self.own.node_id)
        return node is not None and node.draining

    def count(self, reason: str) -> None:
        self.counters[reason] += 1

    def event(self, name: str, **values: object) -> None:
        self.actions.append(Event(name, values))

    @property
    def unix_ns(self) -> int:
        return int(self.unix * 1e9)

    def after(self, seconds: float) -> float:
        return self.now + seconds

    def randint(self, low: int, high: int) -> int:
        """Uniform in [low, high]."""
        return low + int.from_bytes(self.rng(8), "little") % (high - low + 1)

    def jitter(self, seconds: float, part: float = 0.1) -> float:
        """`seconds` times 1 - part to 1 + part."""
        return seconds * (1 - part + 2 * part * int.from_bytes(self.rng(4), "little") / 0xFFFFFFFF)

    def retry_delay(self, tries: int) -> float:
        return self.jitter(min(RETRY_FIRST * float(2**tries), RETRY_MAX))

    def budget(self) -> int:
        """Hop budget to start with: random, so that it tells nothing about the length of the way (section 9)."""
        return self.randint(64, 255)

    def take_link(self) -> int:
        index = next_free(self.links, self._last_link, LINKS)
        if not index:
            raise ExhaustedError("no free link")
        self._last_link = index
        self.links.add(index)
        return index

    def take_label(self) -> int:
        if len(self.labels) > LABELS // 2:
            raise ExhaustedError("no free label")
        while True:
            label = self.randint(1, LABELS - 1)
            if label not in self.labels:
                self.labels.add(label)
                return label

    def take_stream(self) -> int:
        index = next_free(self.streams, self._last_stream, STREAMS)
        if not index:
            raise ExhaustedError("no free stream")
        self._last_stream = index
        self.streams.add(index)
        return index
