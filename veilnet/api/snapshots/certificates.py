# SPDX-License-Identifier: Apache-2.0
"""Certificates of nodes: issued at enrolment, renewed with the record in which they stand.

A certificate lives its realm's `certificate_seconds` and is renewed after half of that, while its node shows signs of
life: a descriptor that has not run out. A node that comes back later gets a new one with its next descriptor, up to
`grace_seconds` after the old one has ended; after that it has to enrol again.
"""

from __future__ import annotations

import base64
from ipaddress import IPv4Address, IPv6Address, ip_network

from veilnet.api.nodes.models import Node
from veilnet.api.rotation.authority import Authority
from veilnet.protocol.documents import CLOCK_SKEW, NETWORKS_MAX, Certificate, sign_certificate
from veilnet.protocol.envelope import Fields, read_envelope, strict_json

NEVER = 2**62


def issue_certificate(row: Node, authority: Authority, now: int, seconds: int) -> None:
    """A new certificate for the node's key, with the next serial."""
    row.certificate_serial += 1
    row.certificate_not_after = now + seconds if row.expires_at is None else min(now + seconds, row.expires_at)
    row.certificates_until = max(row.certificates_until or 0, row.certificate_not_after)
    certificate = Certificate(
        realm=authority.realm,
        node=bytes.fromhex(row.node_id),
        key=base64.b64decode(row.public_key),
        name=row.name,
        roles=frozenset(row.roles),
        ipv4=IPv4Address(row.ipv4),
        ipv6=IPv6Address(row.ipv6),
        taints=frozenset(row.taints),
        networks=tuple(ip_network(prefix) for prefix in row.networks),
        serial=row.certificate_serial,
        not_before=now - CLOCK_SKEW,  # a node whose clock is a little behind must accept it at once
        not_after=row.certificate_not_after,
    )
    row.certificate = sign_certificate(certificate, authority.key).as_json()


def renew_at(row: Node, now: int, seconds: int) -> int:
    """When half of a certificate's life is over: early enough for a node that is often away."""
    if row.descriptor_expires <= now or row.certificate_not_after == row.expires_at:
        return NEVER
    return row.certificate_not_after - seconds // 2


def lapsed(certificate_not_after: int, now: int, grace: int) -> bool:
    """Whether it was away for so long that its credential no longer counts."""
    return now > certificate_not_after + grace


def is_due(row: Node, authority: Authority, now: int, seconds: int) -> bool:
    """Whether the certificate no longer says what it should, is another key's, or is old."""
    outlives = row.expires_at is not None and row.certificate_not_after > row.expires_at
    outlives |= row.certificate_not_after > now + seconds + CLOCK_SKEW  # certificates lived longer when it was made
    if row.certificate["key"] != authority.signer or outlives or not _says(row, now):
        return True
    return now >= renew_at(row, now, seconds)


def _says(row: Node, now: int) -> bool:
    envelope = read_envelope(row.certificate)
    fields = Fields(strict_json(envelope.payload, len(envelope.payload)), "certificate")
    if fields.integer("not_before") > now:
        return False  # made by a clock that was ahead
    networks = fields.array("networks", NETWORKS_MAX) if fields.has("networks") else []
    stated = (fields.text("name"), fields.texts("roles", 8), fields.texts("taints", 64), fields.text("ipv4"), networks)
    return stated == (row.name, frozenset(row.roles), frozenset(row.taints), row.ipv4, row.networks)
