# SPDX-License-Identifier: Apache-2.0
"""Snapshots (docs/protocol.md section 10), and the verified views that the engine uses.

Times are unix seconds and always arguments. Ids are 16 bytes in Python, 32 hexadecimal digits in documents. A
document that is refused raises a DirectoryError; inside a snapshot a bad entry is dropped and counted instead, so that
one broken node can't stop a realm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.documents import (
    CERT_CONTEXT,
    CLOCK_SKEW,
    DESCRIPTOR_CONTEXT,
    Certificate,
    Descriptor,
    Endpoint,
    IpAddress,
    check_time,
    sign_certificate,
    sign_descriptor,
    verify_certificate,
    verify_descriptor,
)
from veilnet.protocol.envelope import (
    SNAPSHOT_MAX,
    BadSignature,
    DirectoryError,
    Envelope,
    Expired,
    Fields,
    MalformedDocument,
    NotYetValid,
    Rollback,
    SelfSigned,
    WrongRealm,
    WrongSigner,
    canonical_json,
    fingerprint,
    key_id,
    open_envelope,
    read_envelope,
    read_id,
    sign_document,
)
from veilnet.protocol.policy import OPEN, Policy, may_talk

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
    "KnownEntries",
    "MalformedDocument",
    "NodeView",
    "NotYetValid",
    "Rollback",
    "SelfSigned",
    "WrongRealm",
    "WrongSigner",
    "fingerprint",
    "key_id",
    "read_envelope",
    "sign_certificate",
    "sign_descriptor",
    "sign_snapshot",
    "verify_certificate",
    "verify_descriptor",
    "verify_snapshot",
]

SNAPSHOT_CONTEXT: Final = b"veilnet/snapshot/1"
NODES_MAX: Final = 4096
EDGES_MAX: Final = 65536
SETTINGS_MAX: Final = 64

T = TypeVar("T")


KnownEntries = dict[bytes, tuple[Certificate, Descriptor]]
"""Verified pairs by the digest of their snapshot entry and CA."""


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
    serial: int = 0
    """Of the descriptor: a higher one may bring other keys and endpoints."""


@dataclass(frozen=True)
class Directory:
    """One verified snapshot. Edges are unordered pairs of node ids, both of them in `nodes`."""

    realm: bytes
    version: int
    settings: Mapping[str, int | str]
    nodes: Mapping[bytes, NodeView]
    edges: frozenset[frozenset[bytes]]
    issued: int = 0
    expires: int = 0
    policy: Policy = OPEN
    dropped: int = field(default=0, compare=False)
    """Entries of the snapshot that did not verify."""

    def by_overlay(self, address: IpAddress) -> NodeView | None:
        return self._overlay.get(address)

    def by_name(self, name: str) -> NodeView | None:
        return self._names.get(name)

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


# ---- signing: realm CA and node --------------------------------------------------------------------------------


def sign_snapshot(
    *,
    ca_key: MLDSA65PrivateKey,
    version: int,
    issued: int,
    expires: int,
    settings: Mapping[str, int | str],
    nodes: list[tuple[Envelope, Envelope]],
    edges: list[tuple[bytes, bytes]],
) -> Envelope:
    """Snapshot of a realm from (certificate, descriptor) envelopes and pairs of node ids."""
    # ID3
    return sign_document(
        {
            "realm": key_id(ca_key.public_key().public_bytes_raw()).hex(),
            "version": version,
            "issued": issued,
            "expires": expires,
            "settings": dict(settings),
            "nodes": [{"cert": cert.as_json(), "descriptor": descriptor.as_json()} for cert, descriptor in nodes],
            "edges": sorted(sorted([one.hex(), other.hex()]) for one, other in edges),
        },
        ca_key,
        SNAPSHOT_CONTEXT,
    )


# ---- verifying ---------------------------------------------------------------------------------------------------


def verify_snapshot(
    data: bytes | Envelope,
    *,
    realm: bytes,
    ca_key: bytes,
    now: int,
    above: int = 0,
    allow_expired: bool = False,
    known: KnownEntries | None = None,
) -> Directory:
    """Directory of a snapshot with a version higher than `above`, under the pinned CA key.

    `allow_expired` takes a snapshot past its end, for a node that starts while the Master is away; each node's own
    documents must still be valid. `known` is a caller's dict that carries verified entries from one snapshot to the
    next, so that only what changed costs two ML-DSA verifications; times are checked again each time.
    """
    # ID4
    if key_id(ca_key) != realm:
        raise WrongSigner("CA key is not the one that the realm id names")
    envelope = data if isinstance(data, Envelope) else read_envelope(data, SNAPSHOT_MAX)
    # ID3
    fields = Fields(open_envelope(envelope, ca_key, SNAPSHOT_CONTEXT), "snapshot")
    if fields.id("realm") != realm:
        raise WrongRealm("snapshot is of another realm than its signer")
    version, issued, expires = fields.integer("version"), fields.integer("issued"), fields.integer("expires")
    settings = _settings(fields.take("settings"))
    entries, edge_items = fields.array("nodes", NODES_MAX), fields.array("edges", EDGES_MAX)
    fields.end()
    if version <= above:
        raise Rollback(f"snapshot version {version} is not above {above}")
    check_time("snapshot", issued, max(expires, now + 1) if allow_expired else expires, now)
    reader = _EntryReader(ca_key, now, known or {})
    nodes = _unique_nodes([node for item in entries if (node := _quietly(lambda: reader.read(item)))])  # noqa: B023
    if known is not None:
        known.clear()
        known.update(reader.seen)
    edges = {edge for item in edge_items if (edge := _quietly(lambda: _edge(item, nodes)))}  # noqa: B023
    dropped = len(entries) - len(nodes) + len(edge_items) - len(edges)
    return Directory(
        realm, version, settings, MappingProxyType(nodes), frozenset(edges), issued, expires, dropped=dropped
    )


def _quietly(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DirectoryError:
        return None


class _EntryReader:
    """Reads entries of one snapshot; those in `known`, by digest under this CA, without their signatures."""

    def __init__(self, ca_key: bytes, now: int, known: KnownEntries) -> None:
        self._ca_key = ca_key
        self._now = now
        self._known = known
        self.seen: KnownEntries = {}

    def read(self, item: Any) -> NodeView:
        digest = hashlib.sha256(key_id(self._ca_key) + canonical_json(item)).digest()
        certificate, descriptor = self._known.get(digest) or self._verified(item)
        check_time("certificate", certificate.not_before, certificate.not_after, self._now)
        check_time("descriptor", descriptor.issued, descriptor.expires, self._now)
        self.seen[digest] = certificate, descriptor
        return _node_view(certificate, descriptor)

    def _verified(self, item: Any) -> tuple[Certificate, Descriptor]:
        fields = Fields(item, "snapshot entry")
        certificate = verify_certificate(fields.take("cert"), self._ca_key, self._now)
        descriptor = verify_descriptor(fields.take("descriptor"), certificate.key, self._now)
        fields.end()
        return certificate, descriptor


def _node_view(certificate: Certificate, descriptor: Descriptor) -> NodeView:
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
        serial=descriptor.serial,
    )


def _unique_nodes(views: list[NodeView]) -> dict[bytes, NodeView]:
    """The first of the nodes that claim one id, name or overlay address."""
    nodes: dict[bytes, NodeView] = {}
    taken: set[object] = set()
    for view in views:
        claims = {view.node_id, view.name, view.ipv4, view.ipv6}
        if taken.isdisjoint(claims):
            nodes[view.node_id] = view
            taken |= claims
    return nodes


def _edge(item: Any, nodes: Mapping[bytes, NodeView]) -> frozenset[bytes]:
    if not isinstance(item, list) or len(item) != 2:
        raise MalformedDocument("edge: not a pair")
    edge = frozenset(read_id(end, "edge") for end in item)
    if len(edge) != 2 or not edge <= nodes.keys():
        raise MalformedDocument("edge: not between two known nodes")
    return edge


def _settings(value: Any) -> Mapping[str, int | str]:
    """Open to new names, so that a Master may know more settings than a node: short names, integers and short texts."""
    if not isinstance(value, dict) or len(value) > SETTINGS_MAX:
        raise MalformedDocument("snapshot: settings are not a small object")
    for name, item in value.items():
        if len(name) > 64 or not (type(item) is int or (isinstance(item, str) and len(item) <= 256)):
            raise MalformedDocument("snapshot: a setting is not an integer or a short text")
    return MappingProxyType(value)
