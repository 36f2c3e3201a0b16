# SPDX-License-Identifier: Apache-2.0
"""Bearer secrets and their hashes.

Every secret is 32 random bytes. API tokens are kept as Argon2id hashes (RFC 9106): they live long and open everything.
Enrolment and node secrets are only ever made here and checked at every request; SHA-256 of 256 random bits gives
nothing to guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

_SCRYPT_N: Final = 2**14
_SCRYPT_R: Final = 8
_SALT_LEN: Final = 16
_ARGON_KIB = 19 * 1024


def new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def quick_hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def quick_matches(secret: str, stored: str) -> bool:
    return hmac.compare_digest(quick_hash(secret), stored)


def slow_hash(secret: str) -> str:
    """PHC string of Argon2id with the parameters of RFC 9106's smaller relatives: 19 MiB, 2 passes, 1 lane."""
    argon = Argon2id(salt=secrets.token_bytes(_SALT_LEN), length=32, iterations=2, lanes=1, memory_cost=_ARGON_KIB)
    return argon.derive_phc_encoded(secret.encode())


def slow_matches(secret: str, stored: str) -> bool:
    if stored.startswith("scrypt$"):  # tokens of Masters made before revision 20261123_0002
        _, salt, digest = stored.split("$")
        return hmac.compare_digest(_scrypt(secret, bytes.fromhex(salt)), bytes.fromhex(digest))
    try:
        Argon2id.verify_phc_encoded(secret.encode(), stored)
    except InvalidKey:
        return False
    return True


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
