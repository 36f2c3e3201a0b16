# SPDX-License-Identifier: Apache-2.0
"""Signed JSON documents of docs/protocol.md section 10: the envelope and the strict reading of what is in it.

An envelope is `{"payload": base64, "sig": base64, "key": hex id}`; the signature is ML-DSA-65 (FIPS 204) over the
payload's bytes with a context string per kind of document. Nothing in a payload counts before its signature verified.

Pure: no clock, no I/O. Signing draws its randomness inside the ML-DSA implementation (hedged, FIPS 204 section 3.4).

    RemoteError
    └── DirectoryError          any document that is refused
        ├── MalformedDocument   not the bytes that section 10 allows
        ├── BadSignature        does not verify under the key that it names
        ├── WrongSigner         names another key than the one that must have signed
        │   └── SelfSigned      a node vouches for itself
        ├── WrongRealm          of another realm
        ├── Expired, NotYetValid
        └── Rollback            older than, or as old as, what is known
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from veilnet.protocol.errors import Reason, RemoteError

ID_LEN: Final = 16
ML_DSA_65_KEY_LEN: Final = 1952
ML_DSA_65_SIG_LEN: Final = 3309
DOCUMENT_MAX: Final = 16 * 1024
"""Bytes of a certificate or descriptor envelope: two ML-DSA-65 values in base64, twice, and small fields."""
SNAPSHOT_MAX: Final = 64 * 1024 * 1024
"""Bytes of a snapshot envelope: about 3000 nodes of 21 KiB."""

_HEX_ID = re.compile(r"[0-9a-f]{32}")


class DirectoryError(RemoteError):
    """A document that someone else made is refused."""

    why = Reason.FIELD

    def __init__(self, detail: str) -> None:
        super().__init__(self.why, detail)


class MalformedDocument(DirectoryError):  # noqa: N818 - reads as what it is
    pass


class BadSignature(DirectoryError):  # noqa: N818
    why = Reason.AUTH


class WrongSigner(DirectoryError):  # noqa: N818
    why = Reason.PEER


class SelfSigned(WrongSigner):
    pass


class WrongRealm(DirectoryError):  # noqa: N818
    why = Reason.PEER


class Expired(DirectoryError):  # noqa: N818
    why = Reason.TIME


class NotYetValid(DirectoryError):  # noqa: N818
    why = Reason.TIME


class Rollback(DirectoryError):  # noqa: N818
    why = Reason.REPLAY


def key_id(public_key: bytes) -> bytes:
    """Id of an ML-DSA-65 public key: node id or realm id, 16 bytes (docs/protocol.md section 1)."""
    return hashlib.sha256(public_key).digest()[:ID_LEN]


def fingerprint(public_key: bytes) -> bytes:
    """SHA-256 of a public key, 32 bytes: what an enrolment token pins."""
    return hashlib.sha256(public_key).digest()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed document. `key` is the 16-byte id that the signer claims."""

    payload: bytes
    sig: bytes
    key: bytes

    def as_json(self) -> dict[str, str]:
        return {"payload": encode_base64(self.payload), "sig": encode_base64(self.sig), "key": self.key.hex()}

    def encode(self) -> bytes:
        return canonical_json(self.as_json())


def sign_document(document: Mapping[str, Any], private_key: MLDSA65PrivateKey, context: bytes) -> Envelope:
    payload = canonical_json(document)
    signer = key_id(private_key.public_key().public_bytes_raw())
    return Envelope(payload=payload, sig=private_key.sign(payload, context), key=signer)


def read_envelope(data: bytes | Mapping[str, Any], limit: int = DOCUMENT_MAX) -> Envelope:
    """Envelope from its bytes, or from the object that stood inside another document. Raises MalformedDocument."""
    fields = Fields(strict_json(data, limit) if isinstance(data, bytes) else data, "envelope")
    envelope = Envelope(
        payload=fields.base64("payload"), sig=fields.base64("sig", ML_DSA_65_SIG_LEN), key=fields.id("key")
    )
    fields.end()
    if len(envelope.payload) > limit:
        raise MalformedDocument(f"envelope: payload of {len(envelope.payload)} bytes, at most {limit} are read")
    return envelope


def open_envelope(envelope: Envelope, public_key: bytes, context: bytes) -> dict[str, Any]:
    """The payload's JSON object, after its signature has verified under `public_key`."""
    if envelope.key != key_id(public_key):
        raise WrongSigner(f"document names signer {envelope.key.hex()}, expected {key_id(public_key).hex()}")
    try:
        MLDSA65PublicKey.from_public_bytes(public_key).verify(envelope.sig, envelope.payload, context)
    except InvalidSignature as error:
        raise BadSignature(f"signature of {envelope.key.hex()} does not verify for {context.decode()}") from error
    except ValueError as error:
        raise MalformedDocument(f"not an ML-DSA-65 public key: {error}") from error
    return strict_json(envelope.payload, len(envelope.payload))


def canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """Canonical base64 only: one text per value, so that a document can't be changed without changing its bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedDocument(f"{what}: not base64") from error
    if encode_base64(data) != text:
        raise MalformedDocument(f"{what}: base64 is not canonical")
    return data


def strict_json(data: bytes, limit: int) -> dict[str, Any]:
    """A JSON object in UTF-8: no duplicate names, no NaN, at most `limit` bytes."""
    if len(data) > limit:
        raise MalformedDocument(f"document of {len(data)} bytes, at most {limit} are read")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_unique_names, parse_constant=_no_constant, parse_float=_no_float
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise MalformedDocument(f"not strict JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise MalformedDocument("document is not a JSON object")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate name")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _no_float(text: str) -> object:
    raise ValueError(f"{text}: documents hold integers only")


class Fields:
    """Takes the fields of one JSON object out, each with its type; `end` refuses what was not taken."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, Mapping):
            raise MalformedDocument(f"{what}: not an object")
        self._left = dict(value)
        self._what = what

    def take(self, name: str) -> Any:
        if name not in self._left:
            raise MalformedDocument(f"{self._what}: field {name} is missing")
        return self._left.pop(name)

    def has(self, name: str) -> bool:
        return name in self._left

    def text(self, name: str, limit: int = 64) -> str:
        value = self.take(name)
        if not isinstance(value, str) or len(value) > limit:
            raise MalformedDocument(f"{self._what}: {name} is not a text of at most {limit} characters")
        return value

    def integer(self, name: str) -> int:
        value = self.take(name)
        if type(value) is not int or not 0 <= value < 2**63:
            raise MalformedDocument(f"{self._what}: {name} is not a non-negative integer")
        return value

    def base64(self, name: str, length: int | None = None) -> bytes:
        value = self.take(name)
        if not isinstance(value, str):
            raise MalformedDocument(f"{self._what}: {name} is not a text")
        data = decode_base64(value, f"{self._what}: {name}")
        if length is not None and len(data) != length:
            raise MalformedDocument(f"{self._what}: {name} has {len(data)} bytes, not {length}")
        return data

    def id(self, name: str) -> bytes:
        return read_id(self.take(name), f"{self._what}: {name}")

    def array(self, name: str, limit: int) -> list[Any]:
        value = self.take(name)
        if not isinstance(value, list) or len(value) > limit:
            raise MalformedDocument(f"{self._what}: {name} is not a list of at most {limit} items")
        return value

    def texts(self, name: str, limit: int) -> frozenset[str]:
        values = self.array(name, limit)
        if not all(isinstance(value, str) and len(value) <= 64 for value in values):
            raise MalformedDocument(f"{self._what}: {name} holds something else than short texts")
        return frozenset(values)

    def end(self) -> None:
        if self._left:
            raise MalformedDocument(f"{self._what}: unknown field {min(self._left)!r}")


def read_id(value: Any, what: str) -> bytes:
    """16-byte id from 32 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not _HEX_ID.fullmatch(value):
        raise MalformedDocument(f"{what}: not an id of 32 hexadecimal digits")
    return bytes.fromhex(value)
