# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from veilnet.api.schemas import Out

CertificateState = Literal["fresh", "late", "ended"]
"""late: over two thirds of its life are over, and renewal, due at half, has not come. ended: only grace is left."""


class PostureFilter(BaseModel):
    certificate: CertificateState | None = None


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
