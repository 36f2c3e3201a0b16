# SPDX-License-Identifier: Apache-2.0
"""Secrets that the Master must be able to read again, in the database under a key that is not in it.

ChaCha20-Poly1305 (RFC 8439) with a random nonce; the key is `seal.key` in the state directory, mode 0600. Replicas
share that file, as they share the CA keys.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from veilnet.api.settings import SetupError
from veilnet.files import write_private

_KEY_LEN: Final = 32
_NONCE_LEN: Final = 12


class Sealer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: ChaCha20Poly1305 | None = None

    def seal(self, data: bytes, purpose: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_LEN)
        return nonce + self._ready().encrypt(nonce, data, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Raises SetupError when it was sealed under another key."""
        try:
            return self._ready().decrypt(sealed[:_NONCE_LEN], sealed[_NONCE_LEN:], purpose)
        except InvalidTag as error:
            raise SetupError(f"{self._path} is not the key that sealed this: restore it from the backup") from error

    def _ready(self) -> ChaCha20Poly1305:
        if self._cipher is None:
            if not self._path.exists():
                write_private(self._path, secrets.token_bytes(_KEY_LEN))
            self._cipher = ChaCha20Poly1305(self._path.read_bytes())
        return self._cipher
