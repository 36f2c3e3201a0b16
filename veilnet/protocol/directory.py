# SPDX-License-Identifier: Apache-2.0
"""The verified view of a realm that the engine uses: nodes, edges, settings, policy. Made by `replica.Replica`.

Ids are 16 bytes in Python, 32 hexadecimal digits in documents; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from veilnet.protocol.documents import (
    CERT_CONTEXT,
    CLOCK_SKEW,
    DESCRIPTOR_CONTEXT,
    Certificate,
    Descriptor,
    Endpoint,
    sign_certificate,
    sign_descriptor,
    verify_certificate,
    verify_descriptor,
)
from veilnet.protocol.envelope import (
    BadSignature,
    DirectoryError,
    Envelope,
    Expired,
    MalformedDocument,
    NotYetValid,
    Rollback,
    SelfSigned,
    WrongRealm,
    WrongSigner,
    fingerprint,
    key_id,
    read_envelope,
)
from veilnet.protocol.names import NO_NAMES, Names, hosts
from veilnet.protocol.networks import IpAddress, IpNetwork
from veilnet.protocol.policy import OPEN, Member, Policy, may_talk

__all__ = [
    "CERT_CONTEXT",
    "CLOCK_SKEW",
    "DESCRIPTOR_CONTEXT",
    "BadSignature",
    "Certificate",
    "Descriptor",
    "Directory",
    "DirectoryError",
    "Endpoint",
    "Envelope",
    "Expired",
    "IpAddress",
    "MalformedDocument",
    "NodeView",
    "NotYetValid",
    "Rollback",
    "SelfSigned",
    "WrongRealm",
    "WrongSigner",
    "fingerprint",
    "key_id",
    "node_view",
    "read_envelope",
    "sees",
    "sign_certificate",
    "sign_descriptor",
    "verify_certificate",
    "verify_descriptor",
]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node whose certificate and descriptor have both verified; usable until `not_after`, the earlier end."""

    node_id: bytes
    name: str
    roles: frozenset[str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    x25519: bytes
    mlkem768: bytes
    knock_seed: bytes
    endpoints: tuple[Endpoint, ...]
    not_after: int
    taints: frozenset[str] = frozenset()
    """Granted by the realm."""
    worn: frozenset[str] = frozenset()
    """Those that the node keeps on; a subset of `taints`."""
    networks: tuple[IpNetwork, ...] = ()
    """Behind the node, as the realm has approved them (docs/networks.md)."""
    serial: int = 0
    """Of the descriptor: a higher one may bring other keys and endpoints."""
    draining: bool = False
    """The realm wants no new circuit through it."""


@dataclass(frozen=True)
class Directory:
    """One verified state of the realm. Edges are unordered pairs of node ids, both of them in `nodes`."""

    realm: bytes
    version: int
    settings: Mapping[str, int | str]
    nodes: Mapping[bytes, NodeView]
    edges: frozenset[frozenset[bytes]]
    issued: int = 0
    expires: int = 0
    policy: Policy = OPEN
    names: Names = NO_NAMES
    dropped: int = field(default=0, compare=False)
    """Records that are held and not in use: not valid now, or clashing with another."""

    def by_overlay(self, address: IpAddress) -> NodeView | None:
        return self._overlay.get(address)

    def by_name(self, name: str) -> NodeView | None:
        return self._names.get(name)

    def hosts(self) -> list[tuple[IpAddress, str]]:
        """Addresses and whole names of the nodes that are in use here, and the realm's records."""
        return list(hosts(self.names, self.nodes))

    def neighbours(self, node_id: bytes) -> frozenset[bytes]:
        return self._neighbours.get(node_id, frozenset())

    def may_talk(self, one: bytes, other: bytes) -> bool:
        """Whether the policy lets two nodes talk, by their certificates and descriptors; not if one is unknown."""
        # ID8
        a, b = self.nodes.get(one), self.nodes.get(other)
        return a is not None and b is not None and may_talk(self.policy, a, b)

    def may_link(self, one: bytes, other: bytes) -> bool:
        """Whether two nodes may be neighbours: an edge joins them and, unless one is a Guardian, they may talk."""
        # ID8
        if other not in self.neighbours(one):
            return False
        relays = any("guardian" in self.nodes[end].roles for end in (one, other))
        return relays or self.may_talk(one, other)

    @cached_property
    def _overlay(self) -> dict[IpAddress, NodeView]:
        return {address: node for node in self.nodes.values() for address in (node.ipv4, node.ipv6)}

    @cached_property
    def _names(self) -> dict[str, NodeView]:
        return {node.name: node for node in self.nodes.values()}

    @cached_property
    def _neighbours(self) -> dict[bytes, frozenset[bytes]]:
        found: dict[bytes, set[bytes]] = {}
        for edge in self.edges:
            one, other = edge
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
        return {node_id: frozenset(others) for node_id, others in found.items()}


def node_view(certificate: Certificate, descriptor: Descriptor, *, draining: bool = False) -> NodeView:
    return NodeView(
        node_id=certificate.node,
        name=certificate.name,
        roles=certificate.roles,
        ipv4=certificate.ipv4,
        ipv6=certificate.ipv6,
        x25519=descriptor.x25519,
        mlkem768=descriptor.mlkem768,
        knock_seed=descriptor.knock_seed,
        endpoints=descriptor.endpoints,
        not_after=min(certificate.not_after, descriptor.expires),
        taints=certificate.taints,
        worn=certificate.taints if descriptor.taints is None else certificate.taints & descriptor.taints,
        networks=certificate.networks,
        serial=descriptor.serial,
        draining=draining,
    )


class Placed(Member, Protocol):
    """A node as visibility looks at it; `neighbours` as its own record lists them."""

    @property
    def node_id(self) -> bytes: ...
    @property
    def roles(self) -> frozenset[str]: ...


def sees(policy: Policy, viewer: Placed, its: frozenset[bytes], node: Placed, edges: frozenset[bytes]) -> bool:
    """Whether `viewer` is told of `node`: itself, Guardians, neighbours, Confluxes that it may talk to. `its` and
    `edges` are the edges that their records list."""
    # ID7
    if viewer.node_id == node.node_id or "guardian" in node.roles:
        return True
    if node.node_id in its or viewer.node_id in edges:
        return True
    return "conflux" in viewer.roles and "conflux" in node.roles and may_talk(policy, viewer, node)
