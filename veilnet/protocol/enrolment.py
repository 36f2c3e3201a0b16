# SPDX-License-Identifier: Apache-2.0
"""The signed claim with which a node proves to the Master that it holds the identity it enrols."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.envelope import (
    ML_DSA_65_KEY_LEN,
    Envelope,
    Expired,
    Fields,
    MalformedDocument,
    NotYetValid,
    encode_base64,
    open_envelope,
    read_envelope,
    sign_document,
    strict_json,
)

ENROL_CONTEXT: Final = b"veilnet/enrol/1"
CLAIM_AGE_MAX: Final = 300
"""Seconds between signing and reading, in either direction: clocks may differ as much as in a hello (RA1)."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class EnrolmentClaim:
    """`key` is the ML-DSA-65 public key, `token` the id of the enrolment token, `issued` unix seconds."""

    realm: bytes
    token: str
    key: bytes
    name: str
    issued: int


def sign_claim(claim: EnrolmentClaim, private_key: MLDSA65PrivateKey) -> Envelope:
    document = {
        "realm": claim.realm.hex(),
        "token": claim.token,
        "key": encode_base64(claim.key),
        "name": claim.name,
        "issued": claim.issued,
    }
    return sign_document(document, private_key, ENROL_CONTEXT)


def verify_claim(data: bytes | Mapping[str, Any], now: int) -> EnrolmentClaim:
    """The claim, signed by the key that it carries. Raises DirectoryError."""
    envelope = read_envelope(data)
    # the key to verify with stands in the payload; everything is read again once it has verified
    stated = Fields(strict_json(envelope.payload, len(envelope.payload)), "claim").base64("key", ML_DSA_65_KEY_LEN)
    fields = Fields(open_envelope(envelope, stated, ENROL_CONTEXT), "claim")
    claim = EnrolmentClaim(
        realm=fields.id("realm"),
        token=fields.text("token"),
        key=fields.base64("key", ML_DSA_65_KEY_LEN),
        name=fields.text("name"),
        issued=fields.integer("issued"),
    )
    fields.end()
    if not _NAME.fullmatch(claim.name):
        raise MalformedDocument("claim: name is not a DNS label (a-z, 0-9, inner hyphens, at most 63)")
    if claim.issued > now + CLAIM_AGE_MAX:
        raise NotYetValid(f"claim was signed {claim.issued - now} s in the future: check the node's clock")
    if claim.issued < now - CLAIM_AGE_MAX:
        raise Expired(f"claim was signed {now - claim.issued} s ago: check the node's clock")
    return claim
