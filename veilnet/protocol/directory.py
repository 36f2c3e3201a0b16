# SPDX-License-Identifier: Apache-2.0
"""Certificates, descriptors and snapshots (docs/protocol.md section 10), and the verified views that the engine uses.

Times are unix seconds and always arguments. Ids are 16 bytes in Python, 32 hexadecimal digits in documents. A
document that is refused raises a DirectoryError; inside a snapshot a bad entry is dropped and counted instead, so that
one broken node can't stop a realm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.envelope import (
    DOCUMENT_MAX,
    ML_DSA_65_KEY_LEN,
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
    encode_base64,
    fingerprint,
    key_id,
    open_envelope,
    read_envelope,
    read_id,
    sign_document,
    strict_json,
)

__all__ = [
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
    "read_envelope",
    "sign_certificate",
    "sign_descriptor",
    "sign_snapshot",
    "verify_certificate",
    "verify_descriptor",
    "verify_snapshot",
]

CERT_CONTEXT: Final = b"veilnet/cert/1"
DESCRIPTOR_CONTEXT: Final = b"veilnet/descriptor/1"
SNAPSHOT_CONTEXT: Final = b"veilnet/snapshot/1"

CLOCK_SKEW: Final = 300
"""Seconds by which a document may lie in the future: the same tolerance as a hello's time (RA1)."""
X25519_LEN: Final = 32
ML_KEM_768_LEN: Final = 1184
KNOCK_SEED_LEN: Final = 32
ENDPOINTS_MAX: Final = 8
ROLES: Final = frozenset({"guardian", "conflux"})
TAINTS_MAX: Final = 32
NODES_MAX: Final = 4096
EDGES_MAX: Final = 65536
SETTINGS_MAX: Final = 64

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

IpAddress = IPv4Address | IPv6Address
Endpoint = tuple[IpAddress, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the realm says about a node (ID1). `key` is the node's ML-DSA-65 public key."""

    realm: bytes
    node: bytes
    key: bytes
    name: str
    roles: frozenset[str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    taints: frozenset[str]
    serial: int
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a node says about itself (ID2): key agreement keys, knock seed, underlay endpoints."""

    node: bytes
    serial: int
    x25519: bytes
    mlkem768: bytes
    knock_seed: bytes
    endpoints: tuple[Endpoint, ...]
    issued: int
    expires: int


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
    dropped: int = field(default=0, compare=False)
    """Entries of the snapshot that did not verify."""

    def by_overlay(self, address: IpAddress) -> NodeView | None:
        return self._overlay.get(address)

    def by_name(self, name: str) -> NodeView | None:
        return self._names.get(name)

    def neighbours(self, node_id: bytes) -> frozenset[bytes]:
        return self._neighbours.get(node_id, frozenset())

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


def sign_certificate(certificate: Certificate, ca_key: MLDSA65PrivateKey) -> Envelope:
    # ID1
    return sign_document(
        {
            "realm": certificate.realm.hex(),
            "node": certificate.node.hex(),
            "key": encode_base64(certificate.key),
            "name": certificate.name,
            "roles": sorted(certificate.roles),
            "ipv4": str(certificate.ipv4),
            "ipv6": str(certificate.ipv6),
            "taints": sorted(certificate.taints),
            "serial": certificate.serial,
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
        },
        ca_key,
        CERT_CONTEXT,
    )


def sign_descriptor(descriptor: Descriptor, node_key: MLDSA65PrivateKey) -> Envelope:
    # ID2
    return sign_document(
        {
            "node": descriptor.node.hex(),
            "serial": descriptor.serial,
            "x25519": encode_base64(descriptor.x25519),
            "mlkem768": encode_base64(descriptor.mlkem768),
            "knock": encode_base64(descriptor.knock_seed),
            "endpoints": [[str(address), port] for address, port in descriptor.endpoints],
            "issued": descriptor.issued,
            "expires": descriptor.expires,
        },
        node_key,
        DESCRIPTOR_CONTEXT,
    )


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


def verify_certificate(data: bytes | Mapping[str, Any] | Envelope, ca_key: bytes, now: int) -> Certificate:
    # ID1
    envelope = _envelope(data)
    if envelope.key != key_id(ca_key) and envelope.key == _claimed_node(envelope):
        raise SelfSigned(f"certificate of {envelope.key.hex()} is signed by the node itself")
    fields = Fields(open_envelope(envelope, ca_key, CERT_CONTEXT), "certificate")
    certificate = _read_certificate(fields)
    if certificate.realm != key_id(ca_key):
        raise WrongRealm(f"certificate is of realm {certificate.realm.hex()}")
    if certificate.node != key_id(certificate.key):
        raise MalformedDocument("certificate: node id is not the id of its key")
    _check_time("certificate", certificate.not_before, certificate.not_after, now)
    return certificate


def verify_descriptor(data: bytes | Mapping[str, Any] | Envelope, node_key: bytes, now: int) -> Descriptor:
    """`node_key` is the ML-DSA-65 public key of the node's verified certificate."""
    # ID2
    fields = Fields(open_envelope(_envelope(data), node_key, DESCRIPTOR_CONTEXT), "descriptor")
    descriptor = Descriptor(
        node=fields.id("node"),
        serial=fields.integer("serial"),
        x25519=fields.base64("x25519", X25519_LEN),
        mlkem768=fields.base64("mlkem768", ML_KEM_768_LEN),
        knock_seed=fields.base64("knock", KNOCK_SEED_LEN),
        endpoints=tuple(_endpoint(item) for item in fields.array("endpoints", ENDPOINTS_MAX)),
        issued=fields.integer("issued"),
        expires=fields.integer("expires"),
    )
    fields.end()
    if descriptor.node != key_id(node_key):
        raise WrongSigner("descriptor describes another node than its signer")
    _check_time("descriptor", descriptor.issued, descriptor.expires, now)
    return descriptor


def verify_snapshot(
    data: bytes | Envelope, *, realm: bytes, ca_key: bytes, now: int, above: int = 0, allow_expired: bool = False
) -> Directory:
    """Directory of a snapshot with a version higher than `above`, under the pinned CA key.

    `allow_expired` takes a snapshot past its end, for a node that starts while the Master is away; each node's own
    documents must still be valid.
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
    _check_time("snapshot", issued, max(expires, now + 1) if allow_expired else expires, now)
    nodes = _unique_nodes([node for item in entries if (node := _quietly(lambda: _node_view(item, ca_key, now)))])  # noqa: B023
    edges = {edge for item in edge_items if (edge := _quietly(lambda: _edge(item, nodes)))}  # noqa: B023
    dropped = len(entries) - len(nodes) + len(edge_items) - len(edges)
    return Directory(realm, version, settings, MappingProxyType(nodes), frozenset(edges), issued, expires, dropped)


def _quietly(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DirectoryError:
        return None


def _node_view(item: Any, ca_key: bytes, now: int) -> NodeView:
    fields = Fields(item, "snapshot entry")
    certificate = verify_certificate(fields.take("cert"), ca_key, now)
    descriptor = verify_descriptor(fields.take("descriptor"), certificate.key, now)
    fields.end()
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


def _envelope(data: bytes | Mapping[str, Any] | Envelope) -> Envelope:
    return data if isinstance(data, Envelope) else read_envelope(data)


def _claimed_node(envelope: Envelope) -> bytes | None:
    """Node id that an unverified certificate claims; only ever used to choose the error."""
    try:
        return Fields(strict_json(envelope.payload, DOCUMENT_MAX), "certificate").id("node")
    except DirectoryError:
        return None


def _read_certificate(fields: Fields) -> Certificate:
    certificate = Certificate(
        realm=fields.id("realm"),
        node=fields.id("node"),
        key=fields.base64("key", ML_DSA_65_KEY_LEN),
        name=fields.text("name"),
        roles=fields.texts("roles", len(ROLES)),
        ipv4=_address(IPv4Address, fields.text("ipv4")),
        ipv6=_address(IPv6Address, fields.text("ipv6")),
        taints=fields.texts("taints", TAINTS_MAX),
        serial=fields.integer("serial"),
        not_before=fields.integer("not_before"),
        not_after=fields.integer("not_after"),
    )
    fields.end()
    if not _NAME.fullmatch(certificate.name):
        raise MalformedDocument("certificate: name is not a DNS label")
    if not certificate.roles or not certificate.roles <= ROLES:
        raise MalformedDocument("certificate: unknown role, or none")
    return certificate


def _address(kind: Callable[[str], T], text: str) -> T:
    try:
        address = kind(text)
    except ValueError as error:
        raise MalformedDocument("not an IP address") from error
    if str(address) != text or "%" in text:
        raise MalformedDocument("IP address is not in its one form")
    return address


def _endpoint(item: Any) -> Endpoint:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str) or type(item[1]) is not int:
        raise MalformedDocument("endpoint: not an address and a port")
    address, port = _address(ip_address, item[0]), item[1]
    if not 0 < port < 65536 or address.is_multicast or address.is_unspecified:
        raise MalformedDocument("endpoint: not a unicast address with a port")
    return address, port


def _settings(value: Any) -> Mapping[str, int | str]:
    """Open to new names, so that a Master may know more settings than a node: short names, integers and short texts."""
    if not isinstance(value, dict) or len(value) > SETTINGS_MAX:
        raise MalformedDocument("snapshot: settings are not a small object")
    for name, item in value.items():
        if len(name) > 64 or not (type(item) is int or (isinstance(item, str) and len(item) <= 256)):
            raise MalformedDocument("snapshot: a setting is not an integer or a short text")
    return MappingProxyType(value)


def _check_time(what: str, start: int, end: int, now: int) -> None:
    if start > now + CLOCK_SKEW:
        raise NotYetValid(f"{what} is valid only in {start - now} s: check this host's clock")
    if end <= now:
        raise Expired(f"{what} ended {now - end} s ago")
