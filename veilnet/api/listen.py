# SPDX-License-Identifier: Apache-2.0
"""Replicas on one Postgres wake each other: NOTIFY in the transaction of a change, LISTEN here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import NOTIFY_CHANNEL
from veilnet.api.hub import Hub

_RETRY_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 15.0
_log: Any = structlog.get_logger("veilnet.api")


@asynccontextmanager
async def listening(engine: AsyncEngine, hub: Hub) -> AsyncIterator[None]:
    """While inside, changes of other replicas wake this hub. Nothing to do on SQLite."""
    if engine.dialect.name != "postgresql":
        yield
        return
    task = asyncio.create_task(_listen(engine, hub))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listen(engine: AsyncEngine, hub: Hub) -> None:
    import asyncpg  # noqa: PLC0415 - only there with the extra `postgres`

    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        connection = None
        try:
            connection = await asyncpg.connect(url, timeout=5)
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _, ended=ended: ended.set())
            await connection.add_listener(NOTIFY_CHANNEL, lambda *found: hub.notify(str(found[3])))
            hub.notify_all()  # what was sent while nobody listened
            while not await _set_within(ended, _PROBE_SECONDS):
                await connection.execute("SELECT 1", timeout=5)
            raise ConnectionError("the server ended it")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("listen", error=type(error).__name__, retry_seconds=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
