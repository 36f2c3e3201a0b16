# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07) on every POST.

The answer of a POST that changed something is stored in the transaction of the change and given again for 24 h to the
same caller, key, route and body. Errors are not stored: nothing was changed, the request may be tried again.

Answers may hold a secret that is shown once. So they are sealed under a key derived from the caller's bearer and the
whole body, of which the database holds hashes only: who reads the database can't open them.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from veilnet.api.errors import BadRequest, Conflict, Invalid
from veilnet.api.idempotency.models import IdempotencyKey
from veilnet.api.idempotency.repository import IdempotencyRepository
from veilnet.api.times import DAY

LIFE: Final = DAY
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_NONCE_LEN: Final = 12


@dataclass(frozen=True)
class Attempt:
    """One request with a key. `credential` is the bearer's text, empty for the anonymous."""

    principal_id: str
    key: str
    route: str
    body: bytes
    credential: str

    @property
    def place(self) -> tuple[str, str, str]:
        return self.principal_id, self.key, self.route

    @property
    def body_hash(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def cipher(self) -> ChaCha20Poly1305:
        # hash the parts by themselves: no split of one text into bearer and body gives another's key
        parts = hashlib.sha256(self.credential.encode()).digest() + hashlib.sha512(self.body).digest()
        return ChaCha20Poly1305(HKDF(SHA256(), 32, None, b"veilnet/idempotency/1").derive(parts))


def read_key(header: str) -> str:
    """The key of the header, with or without the quotes of a structured string."""
    key = header.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise BadRequest("bad-request", "Idempotency-Key: 1 to 255 printable ASCII characters without spaces")
    return key


async def replay(session: AsyncSession, attempt: Attempt, now: int) -> Response | None:
    """The stored answer; None if this request has to be carried out."""
    keys = IdempotencyRepository(session)
    if not await keys.claim(*attempt.place):
        raise in_flight()
    row = await keys.find(*attempt.place)
    if row is None:
        return None
    if row.created_at < now - LIFE:
        await keys.remove(row)
        return None
    if row.body_hash != attempt.body_hash:
        raise Invalid("idempotency-key-reused", "this key was used with another body: take a new key")
    return _open(row, attempt)


async def is_stored(session: AsyncSession, attempt: Attempt, now: int) -> bool:
    row = await IdempotencyRepository(session).find(*attempt.place)
    return row is not None and row.created_at >= now - LIFE


async def store(session: AsyncSession, attempt: Attempt, response: Response, now: int) -> None:
    kept = {name: value for name, value in response.headers.items() if name in {"content-type", "location", "etag"}}
    text = json.dumps({"headers": kept, "body": bytes(response.body).decode()}).encode()
    nonce = secrets.token_bytes(_NONCE_LEN)
    sealed = nonce + attempt.cipher().encrypt(nonce, text, None)
    principal_id, key, route = attempt.place
    row = IdempotencyKey(
        principal_id=principal_id,
        key=key,
        route=route,
        body_hash=attempt.body_hash,
        status=response.status_code,
        sealed=sealed,
        created_at=now,
    )
    await IdempotencyRepository(session).add(row)


def in_flight() -> Conflict:
    error = Conflict("idempotency-in-flight", "wait for the first request's answer, then ask again")
    error.headers["Retry-After"] = "1"
    return error


def _open(row: IdempotencyKey, attempt: Attempt) -> Response:
    try:
        text = attempt.cipher().decrypt(row.sealed[:_NONCE_LEN], row.sealed[_NONCE_LEN:], None)
    except InvalidTag:
        detail = "it was carried out with another credential of yours, and only that one can open the answer"
        raise Conflict("idempotency-unreadable", detail) from None
    stored = json.loads(text)
    return Response(stored["body"], row.status, {**stored["headers"], "Idempotency-Replayed": "true"})
