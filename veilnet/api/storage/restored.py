# SPDX-License-Identifier: Apache-2.0
"""What a database needs that was put back from an older copy, before a Master serves it.

Nodes take nothing below the versions that they know, and the copy's counters are behind them. So every realm's versions
begin again above anything that a right clock can have issued, all records are signed anew, and the next head tells the
nodes from which version on records count (ID9). Only the CA key can say so; who has the database alone gains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.audit.service import by_operator, record
from veilnet.api.clock import accepted, fault_at_start
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import make_engine, write_session
from veilnet.api.hub import Hub
from veilnet.api.outbox.service import emit
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.settings import MasterSettings, SetupError
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.storage.upgrade import bring_up_to_date

_PER_SECOND: Final = 1000
"""Versions and events are counted on from the time in milliseconds: nothing is changed a thousand times a second."""


ABOVE_MAX: Final = 1 << 52
"""Half of what every reader of JSON holds exactly: changes go on above it."""


@dataclass(frozen=True)
class Begun:
    """`last_audit`: number of the last entry that the copy holds; `sessions` that were ended."""

    realms: int
    nodes: int
    sessions: int
    last_audit: int


async def begin_again(settings: MasterSettings, above: int = 0, clock: Callable[[], float] = time.time) -> Begun:
    """Once after every restore, however the database came back; Masters on it may run.

    `above`: versions go on above this one, too, where nodes hold a higher one than the time says. Raises SetupError,
    also where the time can't be right beside the copy: retention would drop what it makes old.
    """
    if not 0 <= above <= ABOVE_MAX:
        raise SetupError(f"--above {above}: a version is at most {ABOVE_MAX}")
    engine = make_engine(settings.database_url)
    try:
        await bring_up_to_date(engine, settings.backups_dir)
        async with write_session(engine, Hub()) as session:
            return await _begin_again(session, int(clock()), above)
    finally:
        await engine.dispose()


def check_time(now: int, signed_at: int, written_at: int) -> None:
    """Raises SetupError if `now` can't be right beside a copy's latest times, unless the operator says that it is."""
    if (fault := fault_at_start(now, signed_at, written_at)) and not accepted():
        raise SetupError(fault)


async def _begin_again(session: AsyncSession, now: int, above: int) -> Begun:
    realms, directory, audit = RealmRepository(session), DirectoryRepository(session), AuditRepository(session)
    last = await audit.last()
    check_time(now, await directory.last_signed(), 0 if last is None else last.created_at)
    least = max(now * _PER_SECOND, above)
    every, nodes = await realms.every(), 0
    for realm in every:
        await realms.raise_versions(realm.id, least)
        nodes += await directory.begin_again(realm.id)
    sessions = await ApiTokenRepository(session).end_sessions(now)
    await CounterRepository(session).raise_to("outbox", now * _PER_SECOND)
    begun = Begun(len(every), nodes, sessions, 0 if last is None else last.seq)
    emit(session, "master.restored", None, "master", {"last_audit": begun.last_audit}, now)
    record(session, by_operator("restore_database", now, {"sessions_ended": [None, begun.sessions]}))
    return begun
