# SPDX-License-Identifier: Apache-2.0
"""Database: engine, sessions, migrations and the base of models and repositories.

Times are unix seconds in integer columns. On SQLite a session that will write starts its transaction with BEGIN
IMMEDIATE, so that two requests can't both read and then fail to write (SQLITE_BUSY_SNAPSHOT).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Generic, TypeVar

from sqlalchemy import BigInteger, Connection, MetaData, Select, event, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from veilnet.api.hub import Hub

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_WRITE: Final = "veil_write"
_CHANGED: Final = "veil_changed_realms"


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {int: BigInteger}  # unix seconds outlive 32 bits


class Entity(Base):
    """A row with one of our ids: what lists are ordered by."""

    __abstract__ = True
    id: Any


E_ = TypeVar("E_", bound=Entity)


def make_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _sqlite_connect)
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@asynccontextmanager
async def read_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@asynccontextmanager
async def write_session(engine: AsyncEngine, hub: Hub) -> AsyncIterator[AsyncSession]:
    """Commits once, when the block ends well; then tells the channels of the realms that changed."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.connection(execution_options={_WRITE: True})
        yield session
        await session.commit()
        for realm_id in session.info.get(_CHANGED, ()):
            hub.notify(realm_id)


def note_change(session: AsyncSession, realm_id: str) -> None:
    session.info.setdefault(_CHANGED, set()).add(realm_id)


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

    async def page(self, query: Select[E_], limit: int, cursor: str | None) -> tuple[list[E_], str | None]:
        """Rows in order of id after `cursor`, and the cursor of the next page if there is one."""
        if cursor is not None:
            query = query.where(self.model.id > cursor)
        rows = list(await self.session.scalars(query.order_by(self.model.id).limit(limit + 1)))
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    def all(self) -> Select[E_]:
        return select(self.model)

    async def every(self) -> list[E_]:
        """All rows; for checks that no request waits for."""
        return list(await self.session.scalars(self.all().order_by(self.model.id)))


@asynccontextmanager
async def writing_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in one transaction that will write, for migrations."""
    async with engine.connect() as connection:
        writing = await connection.execution_options(**{_WRITE: True})
        async with writing.begin():
            yield writing
