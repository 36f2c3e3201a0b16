# SPDX-License-Identifier: Apache-2.0
"""Secrets that the Master must be able to read again, in the database under a key that is not in it.

ChaCha20-Poly1305 (RFC 8439) with a random nonce; the key is `seal.key` in the state directory, mode 0600. Replicas
share that file, as they share the CA keys.
"""

from __future__ import annotations

import contextlib
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
        except (InvalidTag, ValueError) as error:
            raise SetupError(f"{self._path} is not the key that sealed this: restore it from the backup") from error

    def _ready(self) -> ChaCha20Poly1305:
        if self._cipher is None:
            if not self._path.exists():
                self._make()
            self._cipher = ChaCha20Poly1305(self._path.read_bytes())
        return self._cipher

    def _make(self) -> None:
        """Two replicas may be here at once: the first key stays, and both read that one."""
        own = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        write_private(own, secrets.token_bytes(_KEY_LEN))
        with contextlib.suppress(FileExistsError):
            self._path.hardlink_to(own)
        own.unlink()
