# SPDX-License-Identifier: Apache-2.0
"""Short reads stay out of the thread; long ones go there, and give the same answer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PatienceEnded
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.patience import PATIENCE
from veilnet.api.db import make_engine, write_session, writing_connection
from veilnet.api.hub import Hub
from veilnet.api.sqlite import Connection

LONG = """SELECT * FROM (
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT sum(i) FROM n)"""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    yield engine
    await engine.dispose()


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was handed to a connection's thread."""
    found: list[str] = []
    execute: Any = aiosqlite.Connection._execute

    async def noting(self: aiosqlite.Connection, function: Any, *arguments: Any, **options: Any) -> Any:
        found.append(getattr(function, "func", function).__name__)
        return await execute(self, function, *arguments, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", noting)
    return found


async def test_a_short_read_is_not_handed_over(engine: AsyncEngine, handed: list[str]) -> None:
    async with engine.connect() as connection:
        handed.clear()
        assert (await connection.execute(text("SELECT 1 + 1"))).scalar_one() == 2
        assert handed == []


async def test_a_long_read_is_handed_over(engine: AsyncEngine, handed: list[str]) -> None:
    async with engine.connect() as connection:
        handed.clear()
        assert (await connection.execute(text(LONG))).scalar_one() == 100000 * 100001 // 2
        assert handed == ["patiently"]
        assert (await connection.execute(text("SELECT 2"))).scalar_one() == 2
        assert handed == ["patiently"]


async def test_writes_are_handed_over_and_last(engine: AsyncEngine, handed: list[str]) -> None:
    async with engine.begin() as connection:
        handed.clear()
        await connection.execute(text("CREATE TABLE t (x INTEGER)"))
        await connection.execute(text("INSERT INTO t VALUES (:x)"), [{"x": 1}, {"x": 2}])
        assert handed == ["patiently", "executemany"]
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT sum(x) FROM t"))).scalar_one() == 3


async def test_an_error_of_a_short_read_is_the_drivers(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(OperationalError, match="no such table"):
            await connection.execute(text("SELECT * FROM missing"))


async def test_a_transaction_that_writes_waits_for_the_lock_in_the_thread(
    engine: AsyncEngine, handed: list[str]
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (x INTEGER)"))
    handed.clear()
    async with writing_connection(engine) as connection:
        await connection.execute(text("INSERT INTO t VALUES (1)"))
        await connection.execute(text("UPDATE t SET x = 2"))
        assert handed == []
        holder = asyncio.create_task(_add(engine))
        await asyncio.sleep(0.2)
        assert handed[-1] == "patiently" and not holder.done()  # BEGIN IMMEDIATE
    await asyncio.wait_for(holder, PATIENCE)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT sum(x) FROM t"))).scalar_one() == 12


async def _add(engine: AsyncEngine) -> None:
    async with writing_connection(engine) as connection:
        await connection.execute(text("INSERT INTO t VALUES (10)"))


async def test_who_has_waited_for_its_turn_waits_for_the_lock_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One patience for both: nobody waits twice as long as the documents say."""
    monkeypatch.setattr("veilnet.api.sqlite.BUSY_MS", 1000)
    engine, waits = make_engine(f"sqlite+aiosqlite:///{tmp_path / 'd.db'}"), []
    real = Connection.patiently

    def noted(self: Connection, work: Any) -> None:
        if work.args[0] == "BEGIN IMMEDIATE":
            waits.append(self.wait_ms)
        real(self, work)

    monkeypatch.setattr(Connection, "patiently", noted)

    async def write() -> None:
        async with write_session(engine, Hub()):
            pass

    await write()
    waits.clear()
    with closing(sqlite3.connect(tmp_path / "d.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first, second = asyncio.create_task(write()), asyncio.create_task(write())
        found = await asyncio.gather(first, second, return_exceptions=True)
        other.execute("ROLLBACK")
    assert all(isinstance(error, OperationalError | PatienceEnded) for error in found)
    assert 900 < waits[0] <= 1000 and all(wait < 300 for wait in waits[1:])
    await write()
    await engine.dispose()
