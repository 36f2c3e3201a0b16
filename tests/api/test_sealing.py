# SPDX-License-Identifier: Apache-2.0
"""The key that seals secrets in the database: made once, whoever is first, and the only one that opens them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from veilnet.api.sealing import Sealer
from veilnet.api.settings import SetupError


def test_what_is_sealed_opens_for_its_purpose_only(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "seal.key")
    sealed = sealer.seal(b"secret", b"one")
    assert b"secret" not in sealed and sealer.seal(b"secret", b"one") != sealed
    assert Sealer(tmp_path / "seal.key").open(sealed, b"one") == b"secret"
    for wrong, purpose in ((sealed, b"two"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"one"), (sealed[:5], b"one")):
        with pytest.raises(SetupError, match=r"seal\.key"):
            sealer.open(wrong, purpose)


def test_replicas_that_start_together_use_one_key(tmp_path: Path) -> None:
    """Each makes the file if it is missing; one of them wins and the others read its."""
    path = tmp_path / "seal.key"
    with ThreadPoolExecutor(8) as pool:
        sealers = list(pool.map(lambda _: Sealer(path), range(16)))
        texts = list(pool.map(lambda sealer: sealer.seal(b"x", b"p"), sealers))
    assert {sealer.open(text, b"p") for sealer in sealers for text in texts} == {b"x"}
    assert [file.name for file in tmp_path.iterdir()] == ["seal.key"]
    assert path.stat().st_mode & 0o777 == 0o600
