# SPDX-License-Identifier: Apache-2.0
"""Certificates of nodes: issued at enrolment, renewed by the snapshot in which they stand."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address, IPv6Address

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.api.nodes.models import Node
from veilnet.protocol.directory import CLOCK_SKEW, Certificate, key_id, sign_certificate


def issue_certificate(row: Node, ca_key: MLDSA65PrivateKey, now: int, seconds: int) -> None:
    """A new certificate for the node's key, with the next serial."""
    row.certificate_serial += 1
    row.certificate_not_after = now + seconds
    certificate = Certificate(
        realm=key_id(ca_key.public_key().public_bytes_raw()),
        node=bytes.fromhex(row.node_id),
        key=base64.b64decode(row.public_key),
        name=row.name,
        roles=frozenset(row.roles),
        ipv4=IPv4Address(row.ipv4),
        ipv6=IPv6Address(row.ipv6),
        taints=frozenset(),
        serial=row.certificate_serial,
        not_before=now - CLOCK_SKEW,  # a node whose clock is a little behind must accept it at once
        not_after=row.certificate_not_after,
    )
    row.certificate = sign_certificate(certificate, ca_key).as_json()


def renew_at(row: Node, seconds: int) -> int:
    """When two thirds of a certificate's life are over: early enough for a node that is often away."""
    return row.certificate_not_after - seconds // 3
