# SPDX-License-Identifier: Apache-2.0
"""Addressing of the underlay: which segments are behind a NAT, and subnets for those that the file gives none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from veilnet.lab.topology.model import Node, Subnet

UNDERLAY = IPv4Network("10.77.0.0/16")
INSIDE = IPv4Network("192.168.0.0/16")
BETWEEN_NATS = IPv4Network("100.64.0.0/10")
"""Shared address space of carrier-grade NAT (RFC 6598)."""


@dataclass
class Segment:
    """A link or a network: what its ports share a subnet on."""

    name: str
    ports: tuple[tuple[str, str], ...]
    """(node, what the node's file entry calls this port's far side), in the order of the file."""
    domain: int = -1


@dataclass
class Domain:
    """Segments that routers join; NATs separate them."""

    inside_of: list[str] = field(default_factory=list)
    outside_of: list[str] = field(default_factory=list)

    @property
    def pool(self) -> IPv4Network | None:
        """Where addresses come from, None: the public underlay."""
        if not self.inside_of:
            return None
        return BETWEEN_NATS if self.outside_of else INSIDE


def inner_port(node: Node, far: str) -> bool:
    return node.role == "nat" and node.outside != far


def domains(segments: list[Segment], nodes: dict[str, Node]) -> list[Domain]:
    """Number each segment's domain and describe the domains."""
    groups = list(range(len(segments)))

    def root(index: int) -> int:
        while groups[index] != index:
            index = groups[index]
        return index

    for members in _joined(segments, nodes):
        for index in members[1:]:
            groups[root(index)] = root(members[0])
    roots = sorted({root(index) for index in range(len(segments))})
    found = [Domain() for _ in roots]
    for index, segment in enumerate(segments):
        segment.domain = roots.index(root(index))
        for name, far in segment.ports:
            if nodes[name].role == "nat":
                domain = found[segment.domain]
                (domain.inside_of if inner_port(nodes[name], far) else domain.outside_of).append(name)
    return found


def _joined(segments: list[Segment], nodes: dict[str, Node]) -> Iterable[list[int]]:
    """Indices of the segments that each forwarder joins, those that it translates between not."""
    for node in nodes.values():
        if node.forwards:
            ports = [
                index
                for index, segment in enumerate(segments)
                for name, far in segment.ports
                if name == node.name and (node.role == "router" or inner_port(node, far))
            ]
            if ports:
                yield ports


class Pool:
    """Hands out subnets of one range: small ones from its start, large ones from its end."""

    def __init__(self, whole: Subnet) -> None:
        self.whole = whole
        self._low = int(whole.network_address)
        self._high = int(whole.broadcast_address) + 1

    def small(self, prefix: int) -> Subnet:
        size = 1 << (self.whole.max_prefixlen - prefix)
        first, self._low = self._low, self._low + size
        return self._subnet(first, prefix)

    def large(self, prefix: int) -> Subnet:
        self._high -= 1 << (self.whole.max_prefixlen - prefix)
        return self._subnet(self._high, prefix)

    def _subnet(self, first: int, prefix: int) -> Subnet:
        if self._low > self._high:
            raise ValueError(f"{self.whole} has too few addresses for all links and networks")
        kind = IPv4Network if isinstance(self.whole, IPv4Network) else IPv6Network
        return kind((first, prefix))


def check_loops(found: list[Domain], segments: list[Segment], nodes: dict[str, Node]) -> str | None:
    """Name of a NAT that leads back to where it comes from, itself or through others."""
    upward: dict[int, set[tuple[int, str]]] = {index: set() for index in range(len(found))}
    for node in nodes.values():
        if node.role == "nat":
            ports = [(segment.domain, far) for segment in segments for name, far in segment.ports if name == node.name]
            above = [domain for domain, far in ports if far == node.outside]
            for domain, far in ports:
                if far != node.outside:
                    upward[domain] |= {(up, node.name) for up in above}
    for start, ways in upward.items():
        for up, name in ways:
            if start in _reach(up, upward):
                return name
    return None


def _reach(start: int, upward: dict[int, set[tuple[int, str]]]) -> set[int]:
    seen, todo = set[int](), [start]
    while todo:
        domain = todo.pop()
        if domain not in seen:
            seen.add(domain)
            todo += [up for up, _ in upward[domain]]
    return seen
