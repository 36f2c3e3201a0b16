# SPDX-License-Identifier: Apache-2.0
"""Signatures of deliveries by the Standard Webhooks specification 1.0.0 (symmetric, `v1`).

Signed is `id.timestamp.body`; a receiver checks the signature, that the timestamp is fresh, and that it has not seen
the id. While a secret is being rotated there is a signature by each of the two.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_LEN: Final = 32


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_LEN)


def secret_text(secret: bytes) -> str:
    """As it is shown to the administrator, once."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
