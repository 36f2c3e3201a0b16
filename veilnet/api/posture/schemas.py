# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from veilnet.api.schemas import Body, Out

CertificateState = Literal["fresh", "late", "ended"]
"""late: over two thirds of its life are over, and renewal, due at half, has not come. ended: only grace is left."""


Version = Annotated[str, Field(max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~_-]*$")]
Words = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[ -~]+$")]
SOFTWARE_MAX: Final = 50


class PostureFilter(BaseModel):
    """`version`: of the nodes' software."""

    certificate: CertificateState | None = None
    version: Version | None = None


class NodeSoftware(Body):
    """What a node says of itself: VeilNet's version, its cryptographic library, its kernel's release."""

    version: Version
    provider: Words
    kernel: Words


class SoftwareOut(Out):
    """`since`: when the node first said this."""

    version: str
    provider: str
    kernel: str
    since: datetime


class SoftwareCount(Out):
    """null: the node has said nothing, its software is older than that."""

    version: str | None
    provider: str | None
    nodes: int


class Suite(Out):
    """There is one; nothing is negotiated (docs/protocol.md)."""

    key_agreement: str = "X25519+ML-KEM-768"
    signature: str = "ML-DSA-65"
    cipher: str = "ChaCha20-Poly1305"


class CryptoPosture(Out):
    """What a realm's members rely on. `on_other_ca_keys`: records that the active CA key has still to sign."""

    realm_id: str
    suite: Suite
    ca_fingerprint: str
    ca_active_since: datetime
    ca_announced: bool
    on_other_ca_keys: int
    rekey_seconds: int
    certificate_seconds: int
    members: int
    certificates_fresh: int
    certificates_late: int
    certificates_ended: int
    descriptors_ended: int
    software: list[SoftwareCount]
    """What members say that they run, the most frequent first, 50 at most."""


class NodePosture(Out):
    """`ca_key_id`: whose signature its certificate bears."""

    id: str
    name: str
    certificate: CertificateState
    certificate_serial: int
    certificate_not_after: datetime
    ca_key_id: str
    descriptor_expires: datetime
    last_seen_at: datetime | None
    software: SoftwareOut | None
