# SPDX-License-Identifier: Apache-2.0
"""Drops what is kept no longer, some rows in a transaction, by one replica at a time.

A Master that is killed in between leaves whole what it was about to drop; the next turn goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.audit.trimming import trim
from veilnet.api.clock import clock_fault
from veilnet.api.context import Context
from veilnet.api.db import write_session
from veilnet.api.idempotency.repository import IdempotencyRepository
from veilnet.api.idempotency.service import LIFE
from veilnet.api.identity.repository import UsedIdTokenRepository
from veilnet.api.operations.repository import OperationRepository
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.periodic import repeated
from veilnet.api.retention.repository import JobRepository
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.protocol.replica import FORGET_AFTER

JOB: Final = "retention"
BATCH: Final = 500
"""Rows in a transaction: SQLite has one writer, and requests wait for it."""
LOOK_SECONDS: Final = 60.0
_log: Any = structlog.get_logger("veilnet.api")
_Step = Callable[[AsyncSession], Awaitable[int]]


@asynccontextmanager
async def trimming(context: Context) -> AsyncIterator[None]:
    """While inside, this replica does its share."""
    seconds = min(LOOK_SECONDS, context.settings.retention.every_seconds)
    async with repeated("retention", seconds, lambda stopping: take_turn(context, stopping)):
        yield


async def take_turn(context: Context, stopping: Callable[[], bool] = lambda: False) -> dict[str, int] | None:
    """Rows dropped by table; None if it is not this replica's turn, or if the clock is suspect: it says what is old."""
    if clock_fault(context.clock, 0):
        return None
    now, every = context.clock(), context.settings.retention.every_seconds
    async with write_session(context.engine, context.hub) as session:
        if not await JobRepository(session).take_turn(JOB, now, every):
            return None
    dropped = {}
    for table, step in _steps(context, now).items():
        dropped[table] = await _all(context, step, stopping)
        context.metrics.dropped.labels(table).inc(dropped[table])
    context.metrics.retention_at.set(now)
    if any(dropped.values()):
        _log.info("retention", **dropped)
    return dropped


async def _all(context: Context, step: _Step, stopping: Callable[[], bool]) -> int:
    total = 0
    while not stopping():
        async with write_session(context.engine, context.hub) as session:
            count = await step(session)
        total += count
        if count < BATCH:
            break
    return total


def _steps(context: Context, now: int) -> dict[str, _Step]:
    """Table → drops up to `BATCH` of its rows."""
    keep = context.settings.retention
    steps: dict[str, _Step] = {
        "outbox": lambda session: OutboxRepository(session).forget(now - keep.events_seconds, BATCH),
        "idempotency_keys": lambda session: IdempotencyRepository(session).forget(now - LIFE, BATCH),
        "operations": lambda session: OperationRepository(session).forget(now - keep.operations_seconds, BATCH),
        "api_tokens": lambda session: ApiTokenRepository(session).forget_ended(now - keep.sessions_seconds, BATCH),
        "used_id_tokens": lambda session: UsedIdTokenRepository(session).forget(now, BATCH),
        "directory_records": lambda session: DirectoryRepository(session).forget_gone(now - FORGET_AFTER, BATCH),
    }
    if (seconds := keep.audit_seconds) is not None:
        steps["audit_events"] = lambda session: trim(session, now - seconds, now, BATCH)
    return steps
