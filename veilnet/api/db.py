# SPDX-License-Identifier: Apache-2.0
"""Database: engine, sessions, migrations and the base of models and repositories.

Times are unix seconds in integer columns. On SQLite a session that will write starts its transaction with BEGIN
IMMEDIATE, so that two requests can't both read and then fail to write (SQLITE_BUSY_SNAPSHOT). On Postgres transactions
are READ COMMITTED; what must not happen twice at once takes a row lock (`Repository.locked`), and versioned rows refuse
a lost update.

A write session ends with its hooks (`before_commit`), in the order of their keys, then the commit. What takes a lock
that every writer needs, the counters of outbox and audit, stands in such a hook: taken last and in one order, it can't
deadlock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from copy import copy
from typing import Any, ClassVar, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import BigInteger, Connection, MetaData, Select, event, func, select, tuple_
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PatienceEnded
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from veilnet.api import sqlite
from veilnet.api.hub import Hub
from veilnet.api.postgres import postgres_engine

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_WRITE: Final = "veil_write"
"""Of a connection that will write: seconds for which it may wait for the lock."""
_WOKEN: Final = "veil_woken_topics"
_HOOKS: Final = "veil_before_commit"
_AFTER: Final = "veil_after_commit"
NOTIFY_CHANNEL: Final = "veilnet"
_SQLITE_SYNCHRONOUS = "FULL"
Hook = Callable[[AsyncSession], Awaitable[None]]


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {int: BigInteger}  # unix seconds outlive 32 bits


class Entity(Base):
    """A row with one of our ids: what lists are ordered by."""

    __abstract__ = True
    id: Any
    created_at: Any


class VersionedEntity(Entity):
    """A resource that administrators configure: its version is the ETag's, and an update of an older version fails."""

    __abstract__ = True

    row_version: Mapped[int] = mapped_column(server_default="1")

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
        return {"version_id_col": cls.row_version}


E_ = TypeVar("E_", bound=Entity)


def make_engine(url: str) -> AsyncEngine:
    """Engine for `sqlite+aiosqlite:///FILE` or `postgresql+asyncpg://...` (a plain `postgresql://` is read as that)."""
    found = make_url(url)
    if found.drivername == "postgresql":
        found = found.set(drivername="postgresql+asyncpg")
    if found.get_backend_name() == "postgresql":
        return postgres_engine(found)
    # hidden: bound values would reach the log with an error
    engine = create_async_engine(found, module=sqlite.Driver(), hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _sqlite_connect)
    event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    synchronous = f"synchronous={_SQLITE_SYNCHRONOUS}"
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", synchronous, f"busy_timeout={sqlite.BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    driver = connection.connection.dbapi_connection
    if write is not None and isinstance(driver, sqlite.Connection):
        driver.wait_ms = int(1000 * write)
    connection.exec_driver_sql("BEGIN" if write is None else "BEGIN IMMEDIATE")


@asynccontextmanager
async def read_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """On Postgres each statement is a transaction of its own, which saves beginning and ending one."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


class _Turn:
    """SQLite takes one writer at a time and lets the others poll, some of them past busy_timeout: they queue here.

    Raises sqlalchemy.exc.TimeoutError when nobody has written for as long as they would poll: then another process
    holds the database. While the queue moves, it may be as long as it is.
    """

    def __init__(self) -> None:
        self._lock, self._moved_at = asyncio.Lock(), 0.0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[float]:
        """Gives the seconds that are left to wait for other processes."""
        left = await self._wait(sqlite.BUSY_MS / 1000)
        moved = True
        try:
            yield left
        except OperationalError:  # locked, most likely; whatever else it raises, the caller had the database
            moved = False
            raise
        finally:
            if moved:
                self._moved_at = time.monotonic()
            self._lock.release()

    async def _wait(self, patience: float) -> float:
        began, getting = time.monotonic(), asyncio.ensure_future(self._lock.acquire())
        try:
            while True:
                left = max(began, self._moved_at) + patience - time.monotonic()
                if getting.done():
                    return max(left, 0.0)
                if left <= 0:
                    raise PatienceEnded(f"nobody could write for {patience:g} s: another process holds the database")
                await asyncio.wait({getting}, timeout=left)
        except BaseException:
            if not getting.cancel() and not getting.cancelled():
                self._lock.release()  # it came in the same moment
            raise


def _turn(engine: AsyncEngine) -> AbstractAsyncContextManager[float]:
    return _turns.setdefault(engine, _Turn())() if engine.dialect.name == "sqlite" else nullcontext(0.0)


_turns: WeakKeyDictionary[AsyncEngine, _Turn] = WeakKeyDictionary()


@asynccontextmanager
async def write_session(engine: AsyncEngine, hub: Hub) -> AsyncIterator[AsyncSession]:
    """Commits once, when the block ends well; then wakes who waits for what changed, in this and other replicas."""
    async with _turn(engine) as patience, AsyncSession(engine, expire_on_commit=False) as session:
        await session.connection(execution_options={_WRITE: patience})
        yield session
        await session.flush()
        for _, hook in sorted(session.info.get(_HOOKS, {}).items()):
            await hook(session)
        topics = sorted(session.info.get(_WOKEN, ()))
        if engine.dialect.name == "postgresql":
            for topic in topics:  # sent by the server when, and only if, the transaction commits
                await session.execute(select(func.pg_notify(NOTIFY_CHANNEL, topic)))
        await session.commit()
        for done in session.info.get(_AFTER, ()):
            done()
        for topic in topics:
            hub.notify(topic)


@asynccontextmanager
async def part(session: AsyncSession, *, keep: bool = True) -> AsyncIterator[None]:
    """A part of a write session that is undone alone when it raises, or unless `keep`: rows, hooks, what was noted."""
    noted = {key: copy(value) for key, value in session.info.items()}
    kept = False
    try:
        async with session.begin_nested() as savepoint:
            yield
            await session.flush()
            if not keep:
                await savepoint.rollback()
        kept = keep
    finally:
        if not kept:
            session.info.clear()
            session.info.update(noted)


def before_commit(session: AsyncSession, key: str, hook: Hook) -> None:
    """Run `hook` once, at the end of the transaction; keys give the order."""
    session.info.setdefault(_HOOKS, {})[key] = hook


def after_commit(session: AsyncSession, hook: Callable[[], None]) -> None:
    """Run `hook` if and when this transaction is committed."""
    session.info.setdefault(_AFTER, []).append(hook)


def wake(session: AsyncSession, topic: str) -> None:
    """After the commit, wake whoever waits for `topic` at a hub: a realm's id, or `outbox`."""
    session.info.setdefault(_WOKEN, set()).add(topic)


def note_change(session: AsyncSession, realm_id: str) -> None:
    wake(session, realm_id)


class Repository(Generic[E_]):
    """Base of the repositories, the only places with SQL."""

    model: type[E_]

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def by_id(self, row_id: str) -> E_ | None:
        return await self.session.get(self.model, row_id)

    async def add(self, row: E_) -> E_:
        self.session.add(row)
        await self.session.flush()
        return row

    async def locked(self, row_id: str) -> E_ | None:
        """The row, fresh, and nobody else's until the end of the transaction (on SQLite every writer is alone).

        Rows that refer to it may still be added: their transactions may hold what this one waits for.
        """
        query = select(self.model).where(self.model.id == row_id).with_for_update(key_share=True)
        return await self.session.scalar(query, execution_options={"populate_existing": True})

    async def remove(self, row: E_) -> None:
        await self.session.delete(row)
        await self.session.flush()

    async def page(self, query: Select[E_], limit: int, after: tuple[int, str] | None) -> tuple[list[E_], bool]:
        """Rows in order of (created_at, id) behind `after`, and whether there are more."""
        order = (self.model.created_at, self.model.id)
        if after is not None:
            query = query.where(tuple_(*order) > after)
        rows = list(await self.session.scalars(query.order_by(*order).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def all(self) -> Select[E_]:
        return select(self.model)

    async def every(self) -> list[E_]:
        """All rows; for checks that no request waits for."""
        return list(await self.session.scalars(self.all().order_by(self.model.id)))


@asynccontextmanager
async def writing_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in one transaction that will write, for migrations."""
    async with engine.connect() as connection:
        writing = await connection.execution_options(**{_WRITE: sqlite.BUSY_MS / 1000})
        async with writing.begin():
            yield writing
