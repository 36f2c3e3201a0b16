# SPDX-License-Identifier: Apache-2.0
"""Numbers for links and networks: subnets and addresses that the file gives, or the next free ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address, ip_network

from veilnet.lab.topology.items import Item
from veilnet.lab.topology.model import (
    MANAGEMENT,
    MTU_RANGE_IPV6,
    Address,
    Direction,
    Link,
    Network,
    Node,
    Subnet,
)
from veilnet.lab.topology.subnets import UNDERLAY, Pool, Segment, check_loops, domains

OVERLAY = IPv4Network("10.90.0.0/16")
"""Of the realm that a lab makes."""


@dataclass
class Draft:
    """A link or a network's leg before it has addresses."""

    item: Item
    """The file's entry: of the link, the matrix or the network."""
    ends: tuple[str, str]
    mtu: int
    directions: tuple[Direction, Direction] = (Direction(), Direction())
    wired: bool = False
    network: bool = False


@dataclass
class _Place:
    """A segment with the drafts that are on it."""

    drafts: list[Draft]
    segment: Segment
    subnets: tuple[Subnet, ...] = ()
    addresses: dict[str, tuple[Address, ...]] | None = None

    @property
    def item(self) -> Item:
        return self.drafts[0].item

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.segment.ports]

    def said(self, key: str) -> Item | None:
        """What the file's entry says; a matrix has one entry for many links, and says nothing about one."""
        return self.item.get(key) if isinstance(self.item.value, dict) else None


class Numbering:
    """Turns drafts into links and networks. Raises TopologyError."""

    def __init__(self, root: Item, nodes: dict[str, Node], drafts: list[Draft]) -> None:
        self._root, self._nodes, self._drafts = root, nodes, drafts
        self._places = self._group()
        segments = [place.segment for place in self._places]
        self._find_outsides()
        self._domains = domains(segments, nodes)
        looping = check_loops(self._domains, segments, nodes)
        if looping:
            raise self._node_item(looping).error("loop: its outside leads back to its inside")
        self._pools: dict[object, Pool] = {}
        for place in self._places:
            self._give_subnets(place)
        self._check_overlaps()
        for place in self._places:
            self._give_addresses(place)

    def links(self) -> tuple[Link, ...]:
        return tuple(
            self._link(place, draft, index) for index, (place, draft) in enumerate(self._every()) if not draft.network
        )

    def networks(self) -> tuple[Network, ...]:
        legs: dict[str, list[Link]] = {}
        places: dict[str, _Place] = {}
        for index, (place, draft) in enumerate(self._every()):
            if draft.network:
                legs.setdefault(draft.ends[1], []).append(self._link(place, draft, index))
                places[draft.ends[1]] = place
        return tuple(Network(name, places[name].subnets, tuple(found), found[0].mtu) for name, found in legs.items())

    def _every(self) -> list[tuple[_Place, Draft]]:
        return [(place, draft) for place in self._places for draft in place.drafts]

    @staticmethod
    def _link(place: _Place, draft: Draft, index: int) -> Link:
        assert place.addresses is not None
        first, second = (place.addresses.get(end, ()) for end in draft.ends)
        link = Link(draft.ends, place.subnets, (first, second), draft.mtu, draft.directions)
        return replace(link, wire=f"wire{index}") if draft.wired or link.emulated else link

    # ---- segments -------------------------------------------------------------------------------------------------

    def _group(self) -> list[_Place]:
        places: list[_Place] = []
        for draft in self._drafts:
            first, second = draft.ends
            if draft.network and places and places[-1].segment.name == second:
                places[-1].drafts.append(draft)
                places[-1].segment = Segment(second, (*places[-1].segment.ports, (first, second)))
            elif draft.network:
                places.append(_Place([draft], Segment(second, ((first, second),))))
            else:
                places.append(_Place([draft], Segment(f"{first}-{second}", ((first, second), (second, first)))))
        return places

    def _node_item(self, name: str) -> Item:
        return self._root["nodes"][name]

    def _find_outsides(self) -> None:
        """Check what the file says, or find the one way out of each NAT."""
        for node in list(self._nodes.values()):
            filters = node.role == "router" and node.firewall.filtering != "endpoint-independent"
            if not (node.role == "nat" or filters or node.outside):
                continue
            ports = [far for place in self._places for name, far in place.segment.ports if name == node.name]
            ways = [node.outside] if node.outside else [far for far in ports if self._may_be_outside(far)]
            if len(ways) != 1 or ways[0] not in ports or len(ports) < 2:
                named = f"{node.outside!r} is none" if node.outside else "say which one with `outside`"
                why = (
                    f"needs one port outside and at least one inside; its ports lead to {', '.join(ports) or 'nothing'}"
                )
                raise self._node_item(node.name).error(f"{why}; {named}")
            self._nodes[node.name] = replace(node, outside=ways[0])

    def _may_be_outside(self, far: str) -> bool:
        return far in self._nodes and self._nodes[far].forwards

    # ---- numbers --------------------------------------------------------------------------------------------------

    def _give_subnets(self, place: _Place) -> None:
        pool = self._domains[place.segment.domain].pool
        place.subnets = (self._ipv4(place, pool), *self._ipv6(place, inside=pool is not None))
        if len(place.subnets) == 2 and place.drafts[0].mtu < MTU_RANGE_IPV6[0]:
            raise place.item.error(f"MTU {place.drafts[0].mtu} is below IPv6's minimum of {MTU_RANGE_IPV6[0]}")

    def _ipv4(self, place: _Place, pool: IPv4Network | None) -> Subnet:
        given = place.said("ipv4")
        if given:
            return self._given(given, 4, len(place.names))
        whole = pool or self._underlay("ipv4") or UNDERLAY
        return self._next(place, whole, 30, min(24, 32 - (len(place.names) + 1).bit_length()))

    def _ipv6(self, place: _Place, *, inside: bool) -> tuple[Subnet, ...]:
        given = place.said("ipv6")
        if given:
            return (self._given(given, 6, len(place.names)),)
        whole = self._underlay("ipv6")
        return () if whole is None or inside else (self._next(place, whole, 64, 64),)

    def _underlay(self, family: str) -> Subnet | None:
        said = self._root.get("underlay")
        item = said.get(family) if said else None
        return self._given(item, 4 if family == "ipv4" else 6, 2) if item else None

    def _next(self, place: _Place, whole: Subnet, small: int, large: int) -> Subnet:
        pool = self._pools.setdefault(whole, Pool(whole))
        try:
            return pool.large(large) if place.drafts[0].network else pool.small(small)
        except ValueError as error:
            raise place.item.error(str(error)) from error

    @staticmethod
    def _given(item: Item, version: int, hosts: int) -> Subnet:
        try:
            subnet = ip_network(item.text)
        except ValueError as error:
            raise item.error(str(error)) from error
        if subnet.version != version:
            raise item.error(f"{subnet} is not IPv{version}")
        if subnet.num_addresses < hosts + 2 and subnet.prefixlen != 31:
            raise item.error(f"{subnet} has too few addresses for {hosts} nodes")
        return subnet

    def _check_overlaps(self) -> None:
        """Subnets are each their own; private ones of two domains may be the same, as in homes."""
        for place in self._places:
            for subnet in place.subnets:
                for other in (MANAGEMENT, OVERLAY):
                    if subnet.overlaps(other):
                        raise place.item.error(f"{subnet} overlaps {other}, which the lab itself uses")
        # sorted by address, overlapping ones are neighbours
        for (here, first, one), (there, second, two) in itertools.pairwise(self._sorted()):
            if here == there and first.overlaps(second):
                raise two.item.error(f"duplicate addresses: {second} overlaps {first} of {one.segment.name}")

    def _sorted(self) -> list[tuple[tuple[int, int], Subnet, _Place]]:
        rows: list[tuple[tuple[int, int], Subnet, _Place]] = []
        for place in self._places:
            private = bool(self._domains[place.segment.domain].inside_of)
            group = place.segment.domain if private else -1
            rows += [((group, subnet.version), subnet, place) for subnet in place.subnets]
        return sorted(rows, key=lambda row: (row[0], int(row[1].network_address), row[1].prefixlen))

    def _give_addresses(self, place: _Place) -> None:
        found: dict[str, list[Address]] = {name: [] for name in place.names}
        given = self._given_addresses(place)
        for subnet in place.subnets:
            taken = {address for addresses in given.values() for address in addresses}
            offset = 0 if subnet.prefixlen == subnet.max_prefixlen - 1 else 1
            free = (address for address in _hosts(subnet, offset) if address not in taken)
            for name in place.names:
                mine = [address for address in given.get(name, []) if address in subnet]
                found[name].append(mine[0] if mine else next(free))
        place.addresses = {name: tuple(addresses) for name, addresses in found.items()}

    @staticmethod
    def _given_addresses(place: _Place) -> dict[str, list[Address]]:
        said = place.said("addresses")
        given: dict[str, list[Address]] = {}
        taken: set[Address] = set()
        for name, item in said.entries.items() if said else ():
            if said and name not in place.names:
                raise said.keys[name].error(f"link to nowhere: {name!r} is not on {place.segment.name}")
            for element in item.elements:
                address = _address(element, place)
                if address in taken:
                    raise element.error(f"duplicate address {address}")
                taken.add(address)
                given.setdefault(name, []).append(address)
        return given


def _address(item: Item, place: _Place) -> Address:
    try:
        address = ip_address(item.text)
    except ValueError as error:
        raise item.error(str(error)) from error
    for subnet in place.subnets:
        if address in subnet:
            edge = isinstance(subnet, IPv4Network) and subnet.prefixlen < 31
            if edge and address in {subnet.network_address, subnet.broadcast_address}:
                raise item.error(f"{address} is the subnet's own, not a host's")
            return address
    raise item.error(f"{address} is in none of {', '.join(map(str, place.subnets))}")


def _hosts(subnet: Subnet, offset: int) -> itertools.chain[Address]:
    return itertools.chain(subnet[index] for index in range(offset, min(subnet.num_addresses, 1 << 16)))
