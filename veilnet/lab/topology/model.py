# SPDX-License-Identifier: Apache-2.0
"""A lab's topology as data: what a topology file says, with every default and address filled in.

Quantities are in base units: seconds, bits a second, bytes, probabilities from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

Subnet = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Behaviour = Literal["endpoint-independent", "address-dependent", "address-and-port-dependent"]

MEMBERS: Final = ("guardian", "conflux")
"""Roles that run VeilNet's data plane."""
FORWARDERS: Final = ("router", "nat")
"""Roles that forward IP packets of the underlay."""
ROLES: Final = ("master", *MEMBERS, *FORWARDERS, "host")
MANAGEMENT: Final = IPv4Network("10.76.0.0/16")
DEFAULT_MTU: Final = 1500
MTU_RANGE_IPV4: Final = (576, 65535)
"""Bytes of an IP packet. What every host must take (RFC 1122, section 3.3.2) is the least that a link may have."""
MTU_RANGE_IPV6: Final = (1280, 65535)
"""RFC 8200, section 5."""
XDP_MTU_MAX: Final = 3498
"""Of a veth pair with a driver-mode XDP program on one end: one page less headroom, tailroom and Ethernet header."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Bursty loss by the Gilbert-Elliott model: a two-state chain, stepped once a frame (Hasslinger, Hohlfeld 2008)."""

    p: float
    """Probability of going from the good to the bad state."""
    r: float
    """Probability of going back; 1/r is the mean length of a burst in frames."""
    bad: float = 1.0
    """Probability of loss in the bad state (1-h of the literature and of netem)."""
    good: float = 0.0
    """Probability of loss in the good state (1-k)."""


@dataclass(frozen=True, slots=True)
class Direction:
    """What a wire does to the frames of one direction. The default does nothing."""

    delay: float = 0.0
    """Seconds."""
    jitter: float = 0.0
    """Seconds, at most `delay`. Each frame's delay is uniform in delay ± jitter, so frames may overtake."""
    loss: float = 0.0
    """Probability, independent from frame to frame. Not together with `burst`."""
    burst: Burst | None = None
    reorder: float = 0.0
    """Probability that a frame skips the delay and so overtakes; needs a delay."""
    duplicate: float = 0.0
    """Probability that a frame is delivered twice."""
    rate: int | None = None
    """Bits a second, of whole Ethernet frames without preamble and checksum; None: as fast as it goes."""
    queue_seconds: float | None = None
    """Longest wait before the rate's turn; a frame that would wait longer is dropped at the tail. Needs a rate."""
    queue_frames: int | None = None
    """Most frames that wait for the rate's turn. Needs a rate; with neither, QUEUE_FRAMES."""
    mtu: int | None = None
    """Longest IP packet, bytes, that passes; a longer one vanishes without a word. None: whatever the devices send."""

    @property
    def plain(self) -> bool:
        return self == Direction()


QUEUE_FRAMES: Final = 1000
"""Of a direction with a rate and no queue; netem's default `limit`."""


TIMEOUT: Final = 300.0
"""Seconds of a NAT's mapping; what RFC 4787 REQ-5 recommends."""


@dataclass(frozen=True, slots=True)
class Nat:
    """Behaviour of a NAT for UDP in the terms of RFC 4787, sections 4.1 and 5."""

    mapping: Behaviour
    filtering: Behaviour
    timeout: float = TIMEOUT
    """Seconds after the last outbound packet that a mapping is forgotten (RFC 4787 REQ-5: not before 120)."""
    ports: Literal["preserve", "random", "sequential"] = "preserve"
    """Public port of a new mapping: the inside one where it is free, any, or the next (RFC 4787, section 4.2.1)."""
    hairpin: bool = False
    """Whether an inside host reaches another one by its external address (RFC 4787, section 6)."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """What a router or NAT refuses to forward. The default refuses nothing."""

    udp: Literal["open", "blocked"] = "open"
    icmp: Literal["open", "no-errors", "blocked"] = "open"
    """`no-errors`: echo passes, error messages (unreachable, too big, time exceeded) are neither sent nor forwarded, so
    that an MTU shrinks silently."""
    filtering: Behaviour = "endpoint-independent"
    """Of packets from outside, for a router with an `outside`; a NAT has its own in `Nat`. `endpoint-independent` is an
    open router; of the others a router knows `address-and-port-dependent`, the usual stateful firewall."""

    @property
    def open(self) -> bool:
        return self == Firewall()


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    role: str
    number: int
    """1, 2, ... in the order of the file."""
    nat: Nat | None = None
    """Of role nat, always."""
    firewall: Firewall = field(default_factory=Firewall)
    outside: str = ""
    """Of a nat, always, and of a router that filters: the node or network that its outer port leads to."""
    light: bool = False
    """Enrolled and on the Master's channel, without data plane and without a namespace of its own."""

    @property
    def management(self) -> IPv4Address:
        """Address on the management network."""
        return MANAGEMENT[self.number]

    @property
    def forwards(self) -> bool:
        return self.role in FORWARDERS

    @property
    def member(self) -> bool:
        return self.role in MEMBERS


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair between two nodes with subnets of its own, or a node's leg into a network (then ends[1] is that)."""

    ends: tuple[str, str]
    subnets: tuple[Subnet, ...]
    """One of IPv4, then maybe one of IPv6."""
    addresses: tuple[tuple[Address, ...], tuple[Address, ...]]
    """Of each end, one for each subnet; a network has none."""
    mtu: int = DEFAULT_MTU
    """Of the devices on both ends, bytes of an IP packet."""
    directions: tuple[Direction, Direction] = (Direction(), Direction())
    """From ends[0] to ends[1], and back."""
    wire: str = ""
    """Name of the namespace between the ends, empty for a plain veth pair."""
    faultable: bool = False
    """Joined by the emulator even where the file asks for nothing."""

    @property
    def name(self) -> str:
        """What the user calls it: `a-b`, or `a-lan` for a leg."""
        return "-".join(self.ends)

    @property
    def subnet(self) -> IPv4Network:
        return next(subnet for subnet in self.subnets if isinstance(subnet, IPv4Network))

    @property
    def emulated(self) -> bool:
        """Whether an emulator joins the ends: the wire does, or may be told to do, more than show its frames."""
        return self.faultable or not all(direction.plain for direction in self.directions)

    def addresses_of(self, name: str) -> tuple[Address, ...]:
        return self.addresses[self.ends.index(name)]

    def address(self, name: str) -> IPv4Address:
        """IPv4 address of one end."""
        return next(address for address in self.addresses_of(name) if isinstance(address, IPv4Address))

    def other(self, name: str) -> str:
        return self.ends[1 - self.ends.index(name)]

    def direction(self, sender: str) -> Direction:
        """What happens to the frames that `sender` sends."""
        return self.directions[self.ends.index(sender)]


@dataclass(frozen=True, slots=True)
class Network:
    """A shared segment: a bridge with a leg to each of its nodes."""

    name: str
    subnets: tuple[Subnet, ...]
    legs: tuple[Link, ...]
    mtu: int = DEFAULT_MTU

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(leg.ends[0] for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Topology:
    name: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]
    """Point-to-point links, those of a matrix included."""
    networks: tuple[Network, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    """Pairs of members that VeilNet is told to be neighbours."""
    seed: int = 1

    @property
    def master(self) -> Node:
        return next(node for node in self.nodes.values() if node.role == "master")

    @property
    def members(self) -> list[Node]:
        """Every node that runs the whole of VeilNet."""
        return [node for node in self.nodes.values() if node.member and not node.light]

    @property
    def light(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.light]

    @property
    def wired(self) -> list[Link]:
        """Links and legs with a namespace between their ends."""
        return [link for link in self.every_link if link.wire]

    @property
    def every_link(self) -> list[Link]:
        """Links, then the legs of all networks."""
        return [*self.links, *(leg for network in self.networks for leg in network.legs)]

    def faultable(self) -> Topology:
        """The same with every link and leg through the emulator, so that faults reach them."""
        wires = {link.name: f"wire{number}" for number, link in enumerate(self.every_link)}

        def wired(link: Link) -> Link:
            return replace(link, wire=wires[link.name], faultable=True)

        networks = tuple(replace(each, legs=tuple(map(wired, each.legs))) for each in self.networks)
        return replace(self, links=tuple(map(wired, self.links)), networks=networks)

    def with_role(self, role: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.role == role]

    def neighbours(self, name: str) -> list[str]:
        """Nodes and networks that a node's ports lead to."""
        return [link.other(name) for link in self.links_of(name)]

    def links_of(self, name: str) -> list[Link]:
        """Links and legs of a node, in the order of its ports."""
        return [link for link in self.every_link if name in link.ends]

    def link(self, first: str, second: str) -> Link:
        """The link or leg between two names, in either order. Raises KeyError."""
        for link in self.every_link:
            if {first, second} == set(link.ends):
                return link
        raise KeyError(f"{first}-{second}")
