# SPDX-License-Identifier: Apache-2.0
"""SQLite for the event loop: short reads run where they are asked, all else in the connection's thread.

A row that is found by its index takes some 10 µs. Handing the statement to a thread and back takes ten times that on an
idle machine, and on a busy one up to 5 ms each way, as the thread waits for the interpreter (`sys.getswitchinterval`).
So a SELECT runs at once and is stopped after `STEPS` instructions of SQLite's machine, about 1 ms; then, and only
then, it runs in the thread. Whatever may wait, for the lock or for the disk, begins in the thread.
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
            if _is_quick(operation):
                try:
                    own.at_once = True
                    self._run(self._cursor.execute, operation, parameters)
                    await_(_nothing())  # SQLAlchemy takes a driver that never waits for one that blocks
                    return self
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                        raise
                finally:
                    own.at_once = False
            await_(self._in_thread(self._cursor.execute, operation, parameters))
        except Exception as error:
            own._handle_exception(error)
        return self

    def executemany(self, operation: Any, seq_of_parameters: Parameters) -> Any:
        try:
            await_(self._in_thread(self._cursor.executemany, operation, seq_of_parameters))
        except Exception as error:
            self._adapt_connection._handle_exception(error)
        return self

    async def _in_thread(self, execute: Callable[..., Any], operation: Any, parameters: Parameters | None) -> None:
        async with self._adapt_connection._execute_mutex:
            await self._connection._execute(partial(self._run, execute, operation, parameters))

    def _run(self, execute: Callable[..., Any], operation: Any, parameters: Parameters | None) -> None:
        execute(operation, () if parameters is None else parameters)
        if self._cursor.description:
            self._rows = deque(self._cursor.fetchall())


class Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ("at_once",)
    _cursor_cls = Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.at_once = False
        connection._conn.set_progress_handler(self._stop, STEPS)

    def _stop(self) -> bool:
        return self.at_once

    def rollback(self) -> None:
        if self._connection._connection and self._connection.in_transaction:
            super().rollback()


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


def _is_quick(operation: str) -> bool:
    return operation.startswith("SELECT") or operation == "BEGIN"
