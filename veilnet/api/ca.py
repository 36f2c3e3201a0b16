# SPDX-License-Identifier: Apache-2.0
"""Realm CA keys: ML-DSA-65 seeds in files of mode 0600, never in the database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.api.settings import SetupError
from veilnet.files import private_directory, write_private
from veilnet.protocol.directory import key_id


class CaStore:
    def __init__(self, directory: Path) -> None:
        self._directory = private_directory(directory)
        self._keys: dict[str, MLDSA65PrivateKey] = {}

    def create(self) -> MLDSA65PrivateKey:
        key = MLDSA65PrivateKey.generate()
        wire_id = key_id(key.public_key().public_bytes_raw()).hex()
        write_private(self._path(wire_id), key.private_bytes_raw())
        return key

    def key(self, wire_id: str) -> MLDSA65PrivateKey:
        """CA key of the realm whose id on the wire is `wire_id` (32 hexadecimal digits)."""
        if wire_id not in self._keys:
            try:
                self._keys[wire_id] = MLDSA65PrivateKey.from_seed_bytes(self._path(wire_id).read_bytes())
            except FileNotFoundError as error:
                raise SetupError(f"{self._path(wire_id)} is missing: restore it from the backup") from error
        return self._keys[wire_id]

    def discard(self, wire_ids: Iterable[str]) -> None:
        """The private keys are gone for good; a missing one is no error."""
        for wire_id in wire_ids:
            self._keys.pop(wire_id, None)
            self._path(wire_id).unlink(missing_ok=True)

    def _path(self, wire_id: str) -> Path:
        return self._directory / f"{wire_id}.key"
