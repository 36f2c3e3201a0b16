# SPDX-License-Identifier: Apache-2.0
"""Bring a database up to this code's schema at start: a copy first, one Master at a time, all or nothing."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import writing_connection
from veilnet.api.settings import SetupError
from veilnet.api.storage import schema
from veilnet.api.storage.copies import copy_database
from veilnet.files import private_directory

KEEP: Final = 5
"""Copies that stay; older ones go when a new one is made."""
LOCK: Final = 0x5645494C  # of pg_advisory_xact_lock
NO_BACKUP: Final = "VEILNET_UPGRADE_WITHOUT_BACKUP"


async def bring_up_to_date(engine: AsyncEngine, backups: Path) -> None:
    """Raises SetupError for a database of a newer Master, and when no copy can be made first."""
    async with engine.connect() as connection:
        now = await connection.run_sync(schema.current)
    if now == schema.head():
        return
    if now is not None:
        if not schema.known(now):
            raise SetupError(
                f"the database has schema {now}, which this Master does not know (its own is {schema.head()}):"
                " it was written by a newer one; install that again, or restore a backup"
            )
        if os.environ.get(NO_BACKUP) != "1":
            await asyncio.to_thread(_copy_first, engine, backups, now)
    async with writing_connection(engine) as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    if schema.current(connection) != schema.head():  # another replica may have been first
        schema.upgrade(connection)


def _copy_first(engine: AsyncEngine, backups: Path, revision: str) -> None:
    private_directory(backups)
    target = backups / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{revision}.db"
    try:
        copy_database(engine.url, target)
    except (SetupError, OSError) as error:
        raise SetupError(
            f"no copy could be made before the upgrade ({error}); {NO_BACKUP}=1 goes on without"
        ) from error
    for old in sorted(backups.glob("*.db"))[:-KEEP]:
        old.unlink()
