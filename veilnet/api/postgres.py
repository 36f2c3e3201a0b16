# SPDX-License-Identifier: Apache-2.0
"""The engine for Postgres: few round trips, and no request that meets a connection which died while it lay idle."""

from __future__ import annotations

import time
from typing import Any, Final

from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

IDLE_SECONDS: Final = 5.0
"""A connection that lay longer is asked for a sign of life first; at every use that cost three round trips."""
_SETTINGS: Final = {
    "application_name": "veilnet-master",
    "lock_timeout": "5000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "30000",
}
_USED_AT: Final = "veil_used_at"


def postgres_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=10,
        max_overflow=10,
        pool_timeout=5,
        connect_args={"timeout": 5, "server_settings": _SETTINGS},
        hide_parameters=True,
    )
    dialect = engine.sync_engine.dialect

    def leave(_: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    def take(connection: Any, record: Any, _: Any) -> None:
        """Raises DisconnectionError, upon which the pool makes another."""
        if connection.driver_connection.is_closed():
            raise DisconnectionError("closed while it lay idle")
        if time.monotonic() - record.info.get(_USED_AT, time.monotonic()) < IDLE_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("no answer") from error

    event.listen(engine.sync_engine, "checkin", leave)
    event.listen(engine.sync_engine, "checkout", take)
    return engine
