# SPDX-License-Identifier: Apache-2.0
"""What both sides of the handshake share (docs/protocol.md, section 6): parties, transcript, kinds and lengths."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from veilnet.protocol.crypto import (
    HASH_LEN,
    KEM_CIPHERTEXT_LEN,
    KEM_PUBLIC_LEN,
    NONCE_LEN,
    X25519_LEN,
    DhKey,
    KemKey,
    Provider,
    h,
    require,
)
from veilnet.protocol.errors import Reason, RemoteError
from veilnet.protocol.knock import PAYLOAD_LEN
from veilnet.protocol.messages import NODE_ID_LEN

PROTOCOL_NAME = b"VeilNet Anchor 1 X25519 ML-KEM-768 ChaCha20-Poly1305 SHA-256"
REALM_LEN = 16
AEAD_TAG_LEN = 16
HELLO_LEN = 1 + NODE_ID_LEN + 8 + 16  # mode, id_I, unix time, reserved
BISCUIT_A_LEN = HASH_LEN + NODE_ID_LEN + 1 + 2 + AEAD_TAG_LEN  # ck, id_I, mode, minute
BISCUIT_B_LEN = NONCE_LEN + HASH_LEN + AEAD_TAG_LEN
C1_LEN = HELLO_LEN + AEAD_TAG_LEN
C2_LEN = KEM_CIPHERTEXT_LEN + AEAD_TAG_LEN
C3_LEN = NODE_ID_LEN + AEAD_TAG_LEN
ANONYMOUS = bytes(NODE_ID_LEN)
"""id_I in mode hop."""

_ZERO_NONCE = bytes(NONCE_LEN)
_NAME_HASH = hashlib.sha256(PROTOCOL_NAME).digest()


class Mode(IntEnum):
    """What kind of session a handshake makes."""

    LINK = 1
    HOP = 2
    STREAM = 3


class Kind(IntEnum):
    """First byte of a handshake payload."""

    HELLO_A = 1
    HELLO_B = 2
    REPLY_A = 3
    REPLY_B = 4
    CONFIRM = 5


FIELDS_LEN = {
    Kind.HELLO_A: X25519_LEN + KEM_CIPHERTEXT_LEN + C1_LEN,
    Kind.HELLO_B: KEM_PUBLIC_LEN,
    Kind.REPLY_A: X25519_LEN + C2_LEN + BISCUIT_A_LEN,
    Kind.REPLY_B: KEM_CIPHERTEXT_LEN + BISCUIT_B_LEN,
    Kind.CONFIRM: X25519_LEN + BISCUIT_A_LEN + BISCUIT_B_LEN + C3_LEN,
}
_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class PeerKeys:
    """Another node's static public keys, as its verified descriptor gives them."""

    node_id: bytes
    x25519: bytes
    mlkem: bytes

    def __post_init__(self) -> None:
        require(self.node_id, NODE_ID_LEN, "node id")
        require(self.x25519, X25519_LEN, "X25519 public key")
        require(self.mlkem, KEM_PUBLIC_LEN, "ML-KEM-768 public key")


@dataclass(frozen=True, slots=True)
class Identity:
    """Our own static private keys."""

    node_id: bytes
    dh: DhKey
    kem: KemKey

    @classmethod
    def from_private(cls, provider: Provider, node_id: bytes, x25519: bytes, mlkem_seed: bytes) -> Identity:
        """`node_id` 16 bytes, `x25519` private key 32, `mlkem_seed` 64."""
        require(node_id, NODE_ID_LEN, "node id")
        return cls(node_id, provider.dh_key(x25519), provider.kem_key(mlkem_seed))

    def public(self) -> PeerKeys:
        return PeerKeys(self.node_id, self.dh.public, self.kem.public)


def parse_kind(payload: bytes) -> Kind:
    """Kind of a payload of PAYLOAD_LEN bytes. RemoteError: LENGTH, KIND, PADDING (not all zero).

    Noise passes as REPLY_A once in 256 times, because that kind has no padding, and as another practically never.
    """
    if len(payload) != PAYLOAD_LEN:
        raise RemoteError(Reason.LENGTH, "handshake payload")
    kind = _KINDS.get(payload[0])
    if kind is None:
        raise RemoteError(Reason.KIND, "handshake payload")
    if payload.count(0, 1 + FIELDS_LEN[kind]) != PAYLOAD_LEN - 1 - FIELDS_LEN[kind]:
        raise RemoteError(Reason.PADDING, kind.name)
    return kind


def split(payload: bytes, *lengths: int) -> list[bytes]:
    """The fields after the kind, of the given lengths."""
    fields, at = [], 1
    for length in lengths:
        fields.append(payload[at : at + length])
        at += length
    return fields


class Transcript:
    """`ck`, which every message and every shared secret is mixed into."""

    __slots__ = ("ck", "provider")

    def __init__(self, provider: Provider, ck: bytes) -> None:
        self.provider = provider
        self.ck = ck

    def mix(self, data: bytes) -> None:
        self.ck = h(self.ck, b"mix", data)

    def seal(self, label: bytes, plaintext: bytes) -> bytes:
        """`E(ck, label, plaintext)`, then mixed in. A ck seals once per label, so the nonce can be zero."""
        sealed = self.provider.aead_seal(h(self.ck, label), _ZERO_NONCE, b"", plaintext)
        self.mix(sealed)
        return sealed

    def open(self, label: bytes, sealed: bytes) -> bytes:
        """Inverse of `seal`. RemoteError(AUTH)."""
        plaintext = self.provider.aead_open(h(self.ck, label), _ZERO_NONCE, b"", sealed)
        self.mix(sealed)
        return plaintext


@lru_cache(maxsize=1024)
def start(realm: bytes, mode: Mode, responder: PeerKeys) -> bytes:
    """First ck; contains nothing secret."""
    ck = _NAME_HASH  # HS0
    for part in (realm, bytes([mode]), responder.node_id, responder.x25519, responder.mlkem):
        ck = h(ck, b"mix", part)
    return ck


def ephemeral_digest(ek: bytes, ct: bytes, secret: bytes) -> bytes:
    """m_e: the ephemeral ML-KEM exchange, bound to its public key and ciphertext."""
    return hashlib.sha256(b"VeilNet e" + ek + ct + secret).digest()  # RB2
