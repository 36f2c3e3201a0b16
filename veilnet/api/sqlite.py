# SPDX-License-Identifier: Apache-2.0
"""SQLite for the event loop: what is short runs where it is asked, all else in the connection's thread.

A row that is found by its index takes some 10 µs. Handing the statement to a thread and back takes ten times that on an
idle machine, and on a busy one up to 5 ms each way, as the thread waits for the interpreter (`sys.getswitchinterval`).
So a SELECT runs at once and is stopped after `STEPS` instructions of SQLite's machine, about 1 ms; then, and only
then, it runs in the thread. BEGIN IMMEDIATE is tried at once and waits for the lock in the thread; under the lock
single inserts and updates run at once. COMMIT, which waits for the disk, and what touches many rows run in the thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

STEPS: Final = 50_000
BUSY_MS: Final = 5000
"""For which a statement waits for other processes' locks."""
Parameters = Any
"""A sequence or mapping of values; of those for `executemany`."""


class Cursor(AsyncAdapt_aiosqlite_cursor):
    """SQLAlchemy's adapter over the plain cursor of `sqlite3`, whose rows are fetched with the statement."""

    __slots__ = ()
    _awaitable_cursor_close = False
    _adapt_connection: Connection
    _cursor: Any

    def _make_new_cursor(self, connection: Any) -> Any:
        return connection._conn.cursor()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    def execute(self, operation: Any, parameters: Parameters | None = None) -> Any:
        own = self._adapt_connection
        try:
            if own.takes_at_once(operation) and own.done_at_once(partial(self._run, operation, parameters)):
                await_(_nothing())  # SQLAlchemy takes a driver that never waits for one that blocks
            else:
                await_(self._in_thread(partial(own.patiently, partial(self._run, operation, parameters))))
        except Exception as error:
            own._handle_exception(error)
        return self

    def executemany(self, operation: Any, seq_of_parameters: Parameters) -> Any:
        try:
            await_(self._in_thread(partial(self._cursor.executemany, operation, seq_of_parameters)))
        except Exception as error:
            self._adapt_connection._handle_exception(error)
        return self

    async def _in_thread(self, work: Callable[[], Any]) -> None:
        async with self._adapt_connection._execute_mutex:
            await self._connection._execute(work)

    def _run(self, operation: Any, parameters: Parameters | None) -> None:
        self._cursor.execute(operation, () if parameters is None else parameters)
        if self._cursor.description:
            self._rows = deque(self._cursor.fetchall())


class Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ("_at_once", "_locked", "wait_ms")
    _cursor_cls = Cursor
    wait_ms: int
    """For which the next BEGIN IMMEDIATE may wait: what its caller has left."""

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._at_once = self._locked = False
        self.wait_ms = BUSY_MS
        connection._conn.set_progress_handler(self._stop, STEPS)

    def _stop(self) -> bool:
        return self._at_once

    def takes_at_once(self, operation: str) -> bool:
        if operation.startswith("BEGIN"):
            self._locked = operation != "BEGIN"
            return True
        return operation.startswith(("SELECT", "INSERT", "UPDATE") if self._locked else "SELECT")

    def done_at_once(self, work: partial[None]) -> bool:
        """Whether it is done; else it is still to do. Raises what it raises."""
        operation: str = work.args[0]
        try:
            self._at_once = operation.startswith("SELECT")  # SQLite rolls all back when it is stopped in a write
            if operation == "BEGIN IMMEDIATE":
                self._patience(0)
            work()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY}:
                raise
            return False
        finally:
            self._at_once = False
            if operation == "BEGIN IMMEDIATE":
                self._patience(BUSY_MS)
        return True

    def patiently(self, work: partial[None]) -> None:
        if work.args[0] != "BEGIN IMMEDIATE":
            work()
            return
        self._patience(self.wait_ms)
        try:
            work()
        finally:
            self._patience(BUSY_MS)

    def _patience(self, milliseconds: int) -> None:
        self._connection._conn.execute(f"PRAGMA busy_timeout={milliseconds}")

    def commit(self) -> None:
        super().commit()
        self._locked = False

    def rollback(self) -> None:
        if self._locked:
            self._locked = False
            super().rollback()
        elif self._connection._connection and self._connection.in_transaction:
            self._connection._conn.rollback()  # it has only read: nothing to undo on the disk


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """Stands for the module `aiosqlite` with SQLAlchemy: `create_async_engine(..., module=Driver())`."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arguments: Any, **options: Any) -> Connection:
        made = aiosqlite.connect(*arguments, **options)
        made._thread.daemon = True
        return Connection(self, await_(_opened(made)))


async def _opened(made: aiosqlite.Connection) -> aiosqlite.Connection:
    try:
        return await made
    except sqlite3.Error:
        await asyncio.to_thread(made._thread.join)  # else it may answer to a loop that is closed
        raise


async def _nothing() -> None:
    pass
