# SPDX-License-Identifier: Apache-2.0
"""What a ping between any two nodes should do, computed from the file: whether it is answered, and its largest size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from veilnet.lab.topology.model import DEFAULT_MTU, Address, Node, Topology
from veilnet.lab.topology.routes import Port, Route, Routing

MAX_HOPS = 64


@dataclass(frozen=True, slots=True)
class Expectation:
    source: str
    target: str
    address: Address
    """Of the target."""
    mtu: int | None
    """Bytes of the longest echo request that is answered, IP header included; None: none is."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A packet's way over one link, or through one network."""

    sender: str
    out: Port
    port: Port
    """Where it arrives."""

    @property
    def limits(self) -> list[tuple[int, int | None]]:
        """(MTU of the devices, hole) of each link or leg that it passes."""
        if self.out.link is self.port.link:
            return [(self.out.link.mtu, self.out.link.direction(self.sender).mtu)]
        legs = (self.out.link, self.sender), (self.port.link, self.port.far)
        return [(leg.mtu, leg.direction(sender).mtu) for leg, sender in legs]


@dataclass(frozen=True, slots=True)
class _Crossing:
    """A NAT on the way, and who it translated."""

    nat: str
    source: Address


class _RefusedError(Exception):
    """The packet does not arrive."""


class Expectations:
    """Of every pair of nodes with addresses on the underlay. NATs are only passed through: what their own addresses
    answer is no matter of the file's."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._routing = Routing(topology)
        self._routes = {name: self._routing.routes(name) for name in topology.nodes}
        self._ports = {name: [port for _, port in self._routing.ports(name)] for name in topology.nodes}

    def all(self) -> Iterator[Expectation]:
        ends = [node for node in self._topology.nodes.values() if node.role != "nat"]
        for source in ends:
            for target in ends:
                if source is not target and self._ports[source.name]:
                    yield from self._pair(source, target)

    def management(self) -> Iterator[Expectation]:
        """The Master reaches every node on the management network."""
        master = self._topology.master.name
        for node in self._topology.nodes.values():
            if node.name != master:
                mute = node.firewall.icmp == "blocked"
                yield Expectation(master, node.name, node.management, None if mute else DEFAULT_MTU)

    def _pair(self, source: Node, target: Node) -> Iterator[Expectation]:
        for port in self._ports[target.name]:
            for address in port.link.addresses_of(target.name):
                yield Expectation(source.name, target.name, address, self._echo(source.name, address))

    def _echo(self, source: str, address: Address) -> int | None:
        """Longest echo request that is answered."""
        if self._topology.nodes[source].firewall.icmp == "blocked":
            return None
        try:
            there, crossings, seen = self._walk(source, address)
            back: list[_Step] = []
            sender = there[-1].port.node
            for crossing in [*reversed(crossings), None]:
                steps, _, _ = self._walk(sender, seen, reply=True)
                back += steps
                if crossing:
                    sender, seen = crossing.nat, crossing.source
        except _RefusedError:
            return None
        longest = min(min(device, hole or device) for step in there for device, hole in step.limits)
        return min(longest, _reply_limit(back))

    def _walk(
        self, source: str, target: Address, *, reply: bool = False
    ) -> tuple[list[_Step], list[_Crossing], Address]:
        """(steps, NATs crossed to the outside, the source address that arrives). The last step's port is the target's.

        Raises _RefusedError.
        """
        steps: list[_Step] = []
        crossings: list[_Crossing] = []
        node, seen = source, None
        for _ in range(MAX_HOPS):
            out, next_hop = self._next(node, target)
            if seen is None:
                seen = _own(out, target.version)
            if steps:
                seen = self._pass(self._topology.nodes[node], steps[-1], out, seen, crossings, reply=reply)
            there = self._owner(out, next_hop)
            steps.append(_Step(node, out, there))
            node = there.node
            if self._topology.nodes[node].firewall.icmp == "blocked":  # neither forwards nor answers
                raise _RefusedError
            if self._has(node, target):
                return steps, crossings, seen
        raise _RefusedError

    def _pass(
        self, node: Node, came: _Step, out: Port, seen: Address, crossings: list[_Crossing], *, reply: bool
    ) -> Address:
        """What a forwarder does to a packet between two ports; the source address that goes on."""
        outside_in = node.outside == came.port.far and bool(node.outside)
        if not node.forwards:
            raise _RefusedError
        if outside_in and not reply and (node.role == "nat" or node.firewall.filtering != "endpoint-independent"):
            raise _RefusedError
        if node.role == "nat" and out.far == node.outside and not outside_in and not reply:
            crossings.append(_Crossing(node.name, seen))
            return _own(out, seen.version)
        return seen

    def _next(self, node: str, target: Address) -> tuple[Port, Address]:
        """(port that a packet leaves by, address of the next hop)."""
        for port in self._ports[node]:
            if any(target in subnet for subnet in port.link.subnets):
                return port, target
        fitting = [route for route in self._routes[node] if _fits(route, target)]
        if not fitting:
            raise _RefusedError
        best = max(fitting, key=lambda route: -1 if route.to is None else route.to.prefixlen)
        return next(port for port in self._ports[node] if port.far == best.far), best.via

    def _owner(self, out: Port, address: Address) -> Port:
        """The port on the same segment that has an address."""
        name = out.far if out.far not in self._topology.nodes else out.link.name
        for port in self._routing.segments[name]:
            if address in port.link.addresses_of(port.node):
                return port
        raise _RefusedError

    def _has(self, node: str, address: Address) -> bool:
        return any(address in port.link.addresses_of(node) for port in self._ports[node])


def _fits(route: Route, target: Address) -> bool:
    return target.version == 4 if route.to is None else target in route.to


def _own(port: Port, version: int) -> Address:
    for address in port.link.addresses_of(port.node):
        if address.version == version:
            return address
    raise _RefusedError


def _reply_limit(steps: list[_Step]) -> int:
    """Longest reply that arrives. Linux sends echo replies without DF, so devices fragment them, and holes swallow what
    is still too long."""
    limit = whole = 65535
    for device, hole in (each for step in steps for each in step.limits):
        whole = min(whole, device)
        if hole is not None and whole > hole:
            limit = min(limit, hole)
    return limit
