# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated

from pydantic import Field

from veilnet.api.schemas import Body, Out, SignedDocument


class EnrolmentRequest(Body):
    """`request` is signed by the new identity (proof of possession), `descriptor` is its first descriptor.

    Payload of `request`, context `veilnet/enrol/1`: realm, token (its id), key (ML-DSA-65, base64), name, issued.
    """

    token_id: Annotated[str, Field(max_length=64)]
    secret: Annotated[str, Field(max_length=64, repr=False)]
    request: SignedDocument
    descriptor: SignedDocument


class Enrolled(Out):
    """`credential` is shown this once. `ca_key` must have the fingerprint that the token pins."""

    id: str
    node_id: str
    name: str
    roles: list[str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    ipv4_range: IPv4Network
    ipv6_prefix: IPv6Network
    credential: str
    ca_key: str
    ca_chain: list[dict[str, str]]
    """Successions from that key to the one that signs now."""
    certificate: dict[str, str]


class Joined(Out):
    """What the audit keeps of an enrolment."""

    node_id: str
    name: str
    token_id: str
