# SPDX-License-Identifier: Apache-2.0
"""Certificates and descriptors (docs/protocol.md section 10): what the realm says of a node, and the node of itself.

Times are unix seconds and always arguments. Ids are 16 bytes in Python, 32 hexadecimal digits in documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.envelope import (
    DOCUMENT_MAX,
    ML_DSA_65_KEY_LEN,
    DirectoryError,
    Envelope,
    Expired,
    Fields,
    MalformedDocument,
    NotYetValid,
    SelfSigned,
    WrongRealm,
    WrongSigner,
    encode_base64,
    key_id,
    open_envelope,
    read_envelope,
    sign_document,
    strict_json,
)
from veilnet.protocol.networks import IpAddress, IpNetwork
from veilnet.protocol.policy import TAINTS_MAX, check_taint
from veilnet.protocol.trust import Trust

CERT_CONTEXT: Final = b"veilnet/cert/1"
DESCRIPTOR_CONTEXT: Final = b"veilnet/descriptor/1"

CLOCK_SKEW: Final = 300
"""Seconds by which a document may lie in the future: the same tolerance as a hello's time (RA1)."""
X25519_LEN: Final = 32
ML_KEM_768_LEN: Final = 1184
KNOCK_SEED_LEN: Final = 32
ENDPOINTS_MAX: Final = 8
NETWORKS_MAX: Final = 64
ROLES: Final = frozenset({"guardian", "conflux"})

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

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
    networks: tuple[IpNetwork, ...] = ()
    """Approved networks behind the node (docs/networks.md)."""


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
    taints: frozenset[str] | None = None
    """Those of its granted taints that the node wears; None: all of them."""


def sign_certificate(certificate: Certificate, ca_key: MLDSA65PrivateKey) -> Envelope:
    # ID1
    networks = {"networks": [str(network) for network in certificate.networks]} if certificate.networks else {}
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
            **networks,
        },
        ca_key,
        CERT_CONTEXT,
    )


def sign_descriptor(descriptor: Descriptor, node_key: MLDSA65PrivateKey) -> Envelope:
    # ID2
    worn = {} if descriptor.taints is None else {"taints": sorted(descriptor.taints)}
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
            **worn,
        },
        node_key,
        DESCRIPTOR_CONTEXT,
    )


def verify_certificate(data: bytes | Mapping[str, Any] | Envelope, trust: Trust, now: int) -> Certificate:
    certificate = open_certificate(_envelope(data), trust)
    check_time("certificate", certificate.not_before, certificate.not_after, now)
    return certificate


def open_certificate(envelope: Envelope, trust: Trust) -> Certificate:
    """A certificate that one of the realm's trusted keys has signed, whatever the time is."""
    # ID1
    if envelope.key not in map(key_id, trust.keys) and envelope.key == _claimed_node(envelope):
        raise SelfSigned(f"certificate of {envelope.key.hex()} is signed by the node itself")
    fields = Fields(open_envelope(envelope, trust.signer(envelope.key), CERT_CONTEXT), "certificate")
    certificate = _read_certificate(fields)
    if certificate.realm != trust.realm:
        raise WrongRealm(f"certificate is of realm {certificate.realm.hex()}")
    if certificate.node != key_id(certificate.key):
        raise MalformedDocument("certificate: node id is not the id of its key")
    return certificate


def verify_descriptor(data: bytes | Mapping[str, Any] | Envelope, node_key: bytes, now: int) -> Descriptor:
    """`node_key` is the ML-DSA-65 public key of the node's verified certificate."""
    descriptor = open_descriptor(_envelope(data), node_key)
    check_time("descriptor", descriptor.issued, descriptor.expires, now)
    return descriptor


def open_descriptor(envelope: Envelope, node_key: bytes) -> Descriptor:
    """A descriptor that the node has signed, whatever the time is."""
    # ID2
    fields = Fields(open_envelope(envelope, node_key, DESCRIPTOR_CONTEXT), "descriptor")
    descriptor = Descriptor(
        node=fields.id("node"),
        serial=fields.integer("serial"),
        x25519=fields.base64("x25519", X25519_LEN),
        mlkem768=fields.base64("mlkem768", ML_KEM_768_LEN),
        knock_seed=fields.base64("knock", KNOCK_SEED_LEN),
        endpoints=tuple(_endpoint(item) for item in fields.array("endpoints", ENDPOINTS_MAX)),
        issued=fields.integer("issued"),
        expires=fields.integer("expires"),
        taints=_taints(fields) if fields.has("taints") else None,
    )
    fields.end()
    if descriptor.node != key_id(node_key):
        raise WrongSigner("descriptor describes another node than its signer")
    return descriptor


def _taints(fields: Fields) -> frozenset[str]:
    return frozenset(check_taint(taint) for taint in fields.texts("taints", TAINTS_MAX))


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
        taints=_taints(fields),
        serial=fields.integer("serial"),
        not_before=fields.integer("not_before"),
        not_after=fields.integer("not_after"),
        networks=_networks(fields.array("networks", NETWORKS_MAX)) if fields.has("networks") else (),
    )
    fields.end()
    if not _NAME.fullmatch(certificate.name):
        raise MalformedDocument("certificate: name is not a DNS label")
    if certificate.ipv6.ipv4_mapped is not None:  # the data plane would take it for that IPv4 address
        raise MalformedDocument("certificate: ipv6 is an IPv4-mapped address")
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


def _networks(items: list[Any]) -> tuple[IpNetwork, ...]:
    if not items or not all(isinstance(item, str) for item in items) or len(set(items)) != len(items):
        raise MalformedDocument("networks: not a list of different prefixes")
    return tuple(_network(item) for item in items)


def _network(text: str) -> IpNetwork:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise MalformedDocument("not an IP network") from error
    if str(network) != text or "%" in text:
        raise MalformedDocument("IP network is not in its one form")
    return network


def _endpoint(item: Any) -> Endpoint:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str) or type(item[1]) is not int:
        raise MalformedDocument("endpoint: not an address and a port")
    address, port = _address(ip_address, item[0]), item[1]
    if not 0 < port < 65536 or address.is_multicast or address.is_unspecified:
        raise MalformedDocument("endpoint: not a unicast address with a port")
    return address, port


def check_time(what: str, start: int, end: int, now: int) -> None:
    if start > now + CLOCK_SKEW:
        raise NotYetValid(f"{what} is valid only in {start - now} s: check this host's clock")
    if end <= now:
        raise Expired(f"{what} ended {now - end} s ago")
