# SPDX-License-Identifier: Apache-2.0
"""Routing of the underlay, computed from the topology: fewest hops, ties in the order of the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from veilnet.lab.topology.model import Address, Link, Node, Subnet, Topology


@dataclass(frozen=True, slots=True)
class Route:
    to: Subnet | None
    """None: default route, IPv4."""
    via: Address
    far: str
    """The node or network that the outgoing port leads to."""


@dataclass(frozen=True, slots=True)
class Port:
    """A node's end of a link, or of its leg into a network."""

    node: str
    link: Link
    far: str


@dataclass(frozen=True, slots=True)
class _Reached:
    """A segment, and the first hop to it: none where the node is on it."""

    segment: str
    via: Port | None
    """The neighbour's port on the first segment."""
    out: Port


class Routing:
    """Who shares which segment, and every node's routes."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.segments: dict[str, list[Port]] = {}
        for link in topology.links:
            self.segments[link.name] = [Port(end, link, link.other(end)) for end in link.ends]
        for network in topology.networks:
            self.segments[network.name] = [Port(leg.ends[0], leg, network.name) for leg in network.legs]

    def ports(self, node: str) -> list[tuple[str, Port]]:
        """(segment, port) of a node."""
        return [(name, port) for name, ports in self.segments.items() for port in ports if port.node == node]

    def routes(self, node: str) -> list[Route]:
        """Routes of one node beyond its own segments, and its way to the NAT that it is behind."""
        found: list[Route] = []
        own = {subnet for _, port in self.ports(node) for subnet in port.link.subnets}
        default: Route | None = None
        for reached in self._walk(node):
            if reached.via:
                for subnet in self.segments[reached.segment][0].link.subnets:
                    route = _route(subnet, reached.via, reached.out)
                    if route and subnet not in own:
                        own.add(subnet)
                        found.append(route)
            default = default or self._way_out(node, reached)
        return [*found, default] if default else found

    def _way_out(self, node: str, reached: _Reached) -> Route | None:
        """Default route by a NAT with an inner port on a segment that was reached."""
        for port in self.segments[reached.segment]:
            nat = self.topology.nodes[port.node]
            if nat.role == "nat" and nat.name != node and nat.outside != port.far:
                via = reached.via or port
                return Route(None, via.link.address(via.node), reached.out.far)
        return None

    def _walk(self, node: str) -> Iterator[_Reached]:
        """Segments that a node's packets come to without being translated, nearest first."""
        seen: set[str] = set()
        todo: deque[_Reached] = deque()
        for name, port in self.ports(node):
            seen.add(name)
            todo.append(_Reached(name, None, port))
        while todo:
            reached = todo.popleft()
            yield reached
            for port in self.segments[reached.segment]:
                if port.node == node or not self.topology.nodes[port.node].forwards:
                    continue
                for name, other in self.ports(port.node):
                    if name not in seen and self._joined(self.topology.nodes[port.node], port, other):
                        seen.add(name)
                        todo.append(_Reached(name, reached.via or port, reached.out))

    @staticmethod
    def _joined(node: Node, first: Port, second: Port) -> bool:
        """Whether a forwarder passes packets between two of its ports as they are."""
        return node.role == "router" or node.outside not in {first.far, second.far}


def _route(subnet: Subnet, via: Port, out: Port) -> Route | None:
    """None where the neighbour has no address of the family."""
    same = [address for address in via.link.addresses_of(via.node) if address.version == subnet.version]
    return Route(subnet, same[0], out.far) if same else None
