# SPDX-License-Identifier: Apache-2.0
"""The work that a stolen hash costs, and what a commit survives: the other tests of the API spare both."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilnet.api import secrets
from veilnet.api.db import make_engine


@pytest.fixture(autouse=True)
def quick_secrets_and_commits() -> None:
    """Not here."""


def test_a_hash_names_the_parameters_that_owasp_asks_for() -> None:
    stored = secrets.slow_hash("one")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert secrets.slow_matches("one", stored) and not secrets.slow_matches("two", stored)
    assert secrets.slow_hash("one") != stored


async def test_a_commit_is_on_disk_and_references_are_checked(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    async with engine.connect() as connection:
        values = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("synchronous", "foreign_keys", "journal_mode", "busy_timeout")
        }
    await engine.dispose()
    assert values == {"synchronous": 2, "foreign_keys": 1, "journal_mode": "wal", "busy_timeout": 5000}
