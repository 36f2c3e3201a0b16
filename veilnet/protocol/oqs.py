# SPDX-License-Identifier: Apache-2.0
"""ML-KEM-768 and ML-DSA-65 by liboqs, through liboqs-python: the second provider behind `crypto.Provider`.

X25519 and the symmetric primitives, which liboqs has not, stay with `cryptography`. `tools/build_liboqs.sh` builds a
library. liboqs-python clones and builds one from the internet when it finds none at import; `load` looks first and
never lets it come to that.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import os
import threading
import warnings
from pathlib import Path
from typing import Any

from veilnet.protocol.crypto import (
    CONTEXT_MAX,
    KEM_CIPHERTEXT_LEN,
    KEM_PUBLIC_LEN,
    KEM_SECRET_LEN,
    KEM_SEED_LEN,
    SIGN_PUBLIC_LEN,
    SIGN_SEED_LEN,
    SIGNATURE_LEN,
    KemKey,
    SigningKey,
    SymmetricCryptography,
    require,
)
from veilnet.protocol.errors import LocalError, Reason, RemoteError

KEM_NAME = "ML-KEM-768"
SIGNATURE_NAME = "ML-DSA-65"
HELP = (
    "install liboqs >= 0.13 where ldconfig finds it, or run tools/build_liboqs.sh and set OQS_INSTALL_PATH to the "
    "directory that it prints"
)
# key generation from a seed swaps liboqs' generator for a moment, which every other call would see
_lock = threading.Lock()


def find_library() -> str | None:
    """Path or soname of the liboqs that liboqs-python would load, without importing it."""
    found = ctypes.util.find_library("oqs") or ctypes.util.find_library("liboqs")
    if found:
        return found
    prefix = Path(os.environ.get("OQS_INSTALL_PATH", Path.home() / "_oqs"))
    files = [prefix / name / "liboqs.so" for name in ("lib", "lib64")]
    return next((str(file) for file in files if file.exists()), None)


def load() -> Any:
    """The module `oqs`. LocalError, saying what is missing, instead of any download."""
    library = find_library()
    if library is None:
        raise LocalError(f"no liboqs shared library: {HELP}")
    try:
        native = ctypes.CDLL(library)
    except OSError as error:
        raise LocalError(f"liboqs does not load ({error}): {HELP}") from None
    if not hasattr(native, "OQS_SIG_supports_ctx_str"):  # looked up by liboqs-python at import
        raise LocalError(f"{library} is too old for liboqs-python: {HELP}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # versions differ; the algorithms' sizes are checked below
            module = importlib.import_module("oqs")
    except ImportError:
        raise LocalError("liboqs-python is not installed: pip install 'veilnet[oqs]'") from None
    return module


class _OqsKem:
    def __init__(self, module: Any, seed: bytes) -> None:
        self._kem = module.KeyEncapsulation(KEM_NAME)
        self.public: bytes = self._kem.generate_keypair_seed(seed)

    def decaps(self, ciphertext: bytes) -> bytes:
        if len(ciphertext) != KEM_CIPHERTEXT_LEN:
            raise RemoteError(Reason.KEY, "ML-KEM-768 ciphertext")
        with _lock:
            secret: bytes = self._kem.decap_secret(ciphertext)
        return secret


class _OqsSigning:
    def __init__(self, module: Any, seed: bytes) -> None:
        self._signature = module.Signature(SIGNATURE_NAME)
        with _lock:
            self.public = _keypair_from_seed(module, self._signature, seed)

    def sign(self, message: bytes, context: bytes) -> bytes:
        if len(context) > CONTEXT_MAX:
            raise LocalError("signature context is longer than 255 bytes")
        with _lock:
            signature: bytes = self._signature.sign_with_ctx_str(message, context)
        return signature


def _keypair_from_seed(module: Any, signature: Any, seed: bytes) -> bytes:
    """FIPS 204 key generation from xi: liboqs has no call for it, but draws exactly xi from its generator."""
    drawn: list[int] = []

    def give_seed(buffer: Any, length: int) -> None:
        drawn.append(length)
        ctypes.memmove(buffer, seed.ljust(length, b"\0"), length)

    native = module.native()
    callback = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)(give_seed)
    native.OQS_randombytes_custom_algorithm(callback)
    try:
        public: bytes = signature.generate_keypair()
    finally:
        native.OQS_randombytes_switch_algorithm(b"system")
    if drawn != [SIGN_SEED_LEN]:
        raise LocalError("this liboqs does not generate ML-DSA-65 keys from one 32-byte seed")
    return public


class OqsProvider(SymmetricCryptography):
    """LocalError if liboqs or liboqs-python is missing, or was built without the two algorithms."""

    def __init__(self) -> None:
        self._oqs = load()
        try:
            self._encapsulator = self._oqs.KeyEncapsulation(KEM_NAME)
            self._verifier = self._oqs.Signature(SIGNATURE_NAME)
        except (self._oqs.MechanismNotEnabledError, self._oqs.MechanismNotSupportedError) as error:
            raise LocalError(f"liboqs was built without {KEM_NAME} or {SIGNATURE_NAME}: {HELP}") from error
        kem, signature = self._encapsulator, self._verifier
        sizes = (kem.length_public_key, kem.length_ciphertext, kem.length_shared_secret, kem.length_keypair_seed)
        if sizes != (KEM_PUBLIC_LEN, KEM_CIPHERTEXT_LEN, KEM_SECRET_LEN, KEM_SEED_LEN):
            raise LocalError(f"liboqs and liboqs-python disagree about {KEM_NAME}: sizes {sizes}")
        if (signature.length_public_key, signature.length_signature) != (SIGN_PUBLIC_LEN, SIGNATURE_LEN):
            raise LocalError(f"liboqs and liboqs-python disagree about {SIGNATURE_NAME}")
        if not signature.sig_with_ctx_support:
            raise LocalError("this liboqs signs without context strings")

    @property
    def version(self) -> str:
        return str(self._oqs.oqs_version())

    def kem_key(self, seed: bytes) -> KemKey:
        require(seed, KEM_SEED_LEN, "ML-KEM-768 seed")
        return _OqsKem(self._oqs, seed)

    def encaps(self, public: bytes, *, static: bool = True) -> tuple[bytes, bytes]:
        del static  # liboqs parses the key on each call
        if len(public) != KEM_PUBLIC_LEN:
            raise RemoteError(Reason.KEY, "ML-KEM-768 public key")
        with _lock:
            try:
                ciphertext, secret = self._encapsulator.encap_secret(public)
            except RuntimeError:
                raise RemoteError(Reason.KEY, "ML-KEM-768 public key") from None
        return ciphertext, secret

    def signing_key(self, seed: bytes) -> SigningKey:
        require(seed, SIGN_SEED_LEN, "ML-DSA-65 seed")
        return _OqsSigning(self._oqs, seed)

    def verify(self, public: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
        if len(context) > CONTEXT_MAX:
            raise LocalError("signature context is longer than 255 bytes")
        if len(public) != SIGN_PUBLIC_LEN or len(signature) != SIGNATURE_LEN:
            return False
        with _lock:
            return bool(self._verifier.verify_with_ctx_str(message, signature, context, public))
