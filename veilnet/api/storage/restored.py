# SPDX-License-Identifier: Apache-2.0
"""What a database needs that was put back from an older copy, before a Master serves it.

Nodes take nothing below the versions that they know, and the copy's counters are behind them. So every realm's versions
begin again above anything that can have been issued, all records are signed anew, and the next head tells the nodes
from which version on records count (ID9). Only the CA key can say so; who has the database alone gains nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.audit.models import AuditEvent
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.audit.service import record
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import make_engine, write_session
from veilnet.api.hub import Hub
from veilnet.api.ids import new_id
from veilnet.api.outbox.service import emit
from veilnet.api.platform.request_id import current_request_id
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.settings import MasterSettings
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.storage.upgrade import bring_up_to_date

_PER_SECOND: Final = 1000
"""Versions and events are counted on from the time in milliseconds: nothing is changed a thousand times a second."""


@dataclass(frozen=True)
class Begun:
    """`last_audit`: number of the last entry that the copy holds; `sessions` that were ended."""

    realms: int
    nodes: int
    sessions: int
    last_audit: int


async def begin_again(settings: MasterSettings) -> Begun:
    """Once after every restore, however the database came back; Masters on it may run. Raises SetupError."""
    engine = make_engine(settings.database_url)
    try:
        await bring_up_to_date(engine, settings.backups_dir)
        async with write_session(engine, Hub()) as session:
            return await _begin_again(session, int(time.time()))
    finally:
        await engine.dispose()


async def _begin_again(session: AsyncSession, now: int) -> Begun:
    realms, directory = RealmRepository(session), DirectoryRepository(session)
    every, nodes = await realms.every(), 0
    for realm in every:
        await realms.raise_versions(realm.id, now * _PER_SECOND)
        nodes += await directory.begin_again(realm.id)
    sessions = await ApiTokenRepository(session).end_sessions(now)
    last = await AuditRepository(session).last()
    await CounterRepository(session).raise_to("outbox", now * _PER_SECOND)
    begun = Begun(len(every), nodes, sessions, 0 if last is None else last.seq)
    emit(session, "master.restored", None, "master", {"last_audit": begun.last_audit}, now)
    record(session, _entry(begun, now))
    return begun


def _entry(begun: Begun, now: int) -> AuditEvent:
    return AuditEvent(
        id=new_id("aud"),
        created_at=now,
        realm_id=None,
        action="restore_database",
        actor_kind="operator",
        actor_id="host",
        actor_name="the Master's host",
        token_id=None,
        request_id=current_request_id(),
        source="",
        subject=None,
        changes={"sessions_ended": [None, begun.sessions]},
    )
