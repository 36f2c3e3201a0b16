# SPDX-License-Identifier: Apache-2.0
"""Primitives behind small Protocols, and the key derivation `H` (docs/protocol.md, section 2).

Two providers: `CryptographyProvider` here (OpenSSL) and `veilnet.protocol.oqs.OqsProvider` (liboqs for ML-KEM-768 and
ML-DSA-65). Key objects are parsed once and kept, because parsing costs as much as using (ML-KEM: 80 us from the seed,
15 us for a public key).

Python and OpenSSL's bindings hand secrets out as immutable `bytes`; those can't be wiped, only dropped. Where this
package holds a secret for longer than a call, it holds it in a `bytearray` and wipes that (`wipe`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from veilnet.protocol.errors import LocalError, Reason, RemoteError

HASH_LEN = 32
KEY_LEN = 32
NONCE_LEN = 12
X25519_LEN = 32
KEM_SEED_LEN = 64  # FIPS 203: d ‖ z
KEM_PUBLIC_LEN = 1184
KEM_CIPHERTEXT_LEN = 1088
KEM_SECRET_LEN = 32
SIGN_SEED_LEN = 32  # FIPS 204: xi
SIGN_PUBLIC_LEN = 1952
SIGNATURE_LEN = 3309
CONTEXT_MAX = 255

Rng = Callable[[int], bytes]
"""n → n bytes fit for keys; the shell passes `os.urandom`."""

_INNER_PAD = bytes(x ^ 0x36 for x in range(256))
_OUTER_PAD = bytes(x ^ 0x5C for x in range(256))


def h(key: bytes | bytearray, label: bytes, data: bytes = b"") -> bytes:
    """`H(key, label, data)`: HMAC-SHA-256 (RFC 2104) over `label ‖ 0x00 ‖ data`; 32 bytes. Key: 64 bytes at most.

    Two plain SHA-256 calls: `hmac.digest` takes 1.7 us here, this 1.2, and a handshake makes about 40 calls.
    """
    block = bytes(key).ljust(64, b"\0")
    inner = hashlib.sha256(block.translate(_INNER_PAD) + label + b"\0" + data).digest()
    return hashlib.sha256(block.translate(_OUTER_PAD) + inner).digest()


def wipe(secret: bytearray | None) -> None:
    """Overwrite with zeros. Copies that the interpreter or OpenSSL made are out of reach."""
    if secret is not None:
        secret[:] = bytes(len(secret))


class DhKey(Protocol):
    """X25519 private key (RFC 7748)."""

    @property
    def public(self) -> bytes: ...
    def exchange(self, peer: bytes) -> bytes:
        """Shared secret, 32 bytes. `peer`: 32 bytes. RemoteError(KEY) for a point of low order."""


class KemKey(Protocol):
    """ML-KEM-768 private key (FIPS 203)."""

    @property
    def public(self) -> bytes: ...
    def decaps(self, ciphertext: bytes) -> bytes:
        """Shared secret, 32 bytes; a forged ciphertext gives a random one (implicit rejection)."""


class SigningKey(Protocol):
    """ML-DSA-65 private key (FIPS 204)."""

    @property
    def public(self) -> bytes: ...
    def sign(self, message: bytes, context: bytes) -> bytes: ...


class Provider(Protocol):
    """All primitives that the protocol uses. Byte lengths are the constants above."""

    def dh_key(self, private: bytes) -> DhKey: ...
    def kem_key(self, seed: bytes) -> KemKey: ...
    def encaps(self, public: bytes, *, static: bool = True) -> tuple[bytes, bytes]:
        """(ciphertext, shared secret) to an ML-KEM-768 public key. `static`: keep the parsed key for the next time.
        RemoteError(KEY) if the key is not one."""

    def signing_key(self, seed: bytes) -> SigningKey: ...
    def verify(self, public: bytes, message: bytes, signature: bytes, context: bytes) -> bool: ...
    def aead_seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """`ciphertext ‖ tag 16` of ChaCha20-Poly1305 (RFC 8439)."""

    def aead_open(self, key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes:
        """Plaintext, or RemoteError(AUTH)."""

    def chacha20(self, key: bytes, nonce: bytes, data: bytes) -> bytes:
        """`data` xor the key stream from block 0 on (RFC 8439). `nonce`: 12 bytes."""


class _CryptographyDh:
    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def exchange(self, peer: bytes) -> bytes:
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise RemoteError(Reason.KEY, "X25519 public key") from None


class _CryptographyKem:
    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        self._private = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def decaps(self, ciphertext: bytes) -> bytes:
        try:
            return self._private.decapsulate(ciphertext)
        except ValueError:
            raise RemoteError(Reason.KEY, "ML-KEM-768 ciphertext") from None


class _CryptographySigning:
    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        self._private = MLDSA65PrivateKey.from_seed_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes, context: bytes) -> bytes:
        return self._private.sign(message, context)


@lru_cache(maxsize=1024)
def _parsed_kem(public: bytes) -> MLKEM768PublicKey:
    return MLKEM768PublicKey.from_public_bytes(public)


_chacha20_lock = threading.Lock()


@lru_cache(maxsize=256)
def _chacha20_context(key: bytes) -> CipherContext:
    # OpenSSL's 16-byte nonce is the block counter, 4 bytes, and RFC 8439's nonce
    return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()


def require(value: bytes | bytearray, length: int, what: str) -> None:
    """LocalError unless `value` has `length` bytes; for arguments of our own caller."""
    if len(value) != length:
        raise LocalError(f"{what} has {len(value)} bytes, not {length}")


class SymmetricCryptography:
    """The symmetric half and X25519 by `cryptography`; liboqs has neither."""

    def dh_key(self, private: bytes) -> DhKey:
        require(private, X25519_LEN, "X25519 private key")
        return _CryptographyDh(private)

    def aead_seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        return ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)

    def aead_open(self, key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes:
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, sealed, aad)
        except InvalidTag:
            raise RemoteError(Reason.AUTH) from None

    def chacha20(self, key: bytes, nonce: bytes, data: bytes) -> bytes:
        # a context per key costs 0.8 us a call, a new one 3.5; the lock because it holds the position in the stream
        with _chacha20_lock:
            context = _chacha20_context(key)
            context.reset_nonce(bytes(4) + nonce)
            return context.update(data)


class CryptographyProvider(SymmetricCryptography):
    """Everything by `cryptography` (OpenSSL 3.5 or later)."""

    def kem_key(self, seed: bytes) -> KemKey:
        require(seed, KEM_SEED_LEN, "ML-KEM-768 seed")
        return _CryptographyKem(seed)

    def encaps(self, public: bytes, *, static: bool = True) -> tuple[bytes, bytes]:
        try:
            key = _parsed_kem(public) if static else MLKEM768PublicKey.from_public_bytes(public)
        except ValueError:
            raise RemoteError(Reason.KEY, "ML-KEM-768 public key") from None
        secret, ciphertext = key.encapsulate()
        return ciphertext, secret

    def signing_key(self, seed: bytes) -> SigningKey:
        require(seed, SIGN_SEED_LEN, "ML-DSA-65 seed")
        return _CryptographySigning(seed)

    def verify(self, public: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
        if len(context) > CONTEXT_MAX:
            raise LocalError("signature context is longer than 255 bytes")
        try:
            MLDSA65PublicKey.from_public_bytes(public).verify(signature, message, context)
        except (InvalidSignature, ValueError):
            return False
        return True
