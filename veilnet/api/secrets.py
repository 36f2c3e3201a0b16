# SPDX-License-Identifier: Apache-2.0
"""Bearer secrets and their hashes.

Every secret is 32 random bytes. Administrators' tokens are kept as scrypt hashes (RFC 7914): they live long and open
everything. Enrolment and node secrets are only ever made here and checked at every request; SHA-256 of 256 random bits
gives nothing to guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

_SCRYPT_N: Final = 2**14
_SCRYPT_R: Final = 8
_SALT_LEN: Final = 16


def new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def quick_hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def quick_matches(secret: str, stored: str) -> bool:
    return hmac.compare_digest(quick_hash(secret), stored)


def slow_hash(secret: str) -> str:
    salt = secrets.token_bytes(_SALT_LEN)
    return f"scrypt${salt.hex()}${_scrypt(secret, salt).hex()}"


def slow_matches(secret: str, stored: str) -> bool:
    kind, salt, digest = stored.split("$")
    return kind == "scrypt" and hmac.compare_digest(_scrypt(secret, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=1, dklen=32)


def bearer(prefix: str, row_id: str, secret: str) -> str:
    """`vnt_<row id without its prefix>_<secret>`: the id finds the row, the secret proves."""
    return f"{prefix}_{row_id.partition('_')[2]}_{secret}"


def split_bearer(text: str, prefix: str, id_prefix: str) -> tuple[str, str] | None:
    """(row id, secret) of a bearer of this kind, or None."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != prefix or not text.isascii():
        return None
    return f"{id_prefix}_{parts[1]}", parts[2]
