# SPDX-License-Identifier: Apache-2.0
"""What has to be done because time has passed, whoever is connected: each replica looks, one of them does it.

Nodes whose time is over expire; ephemeral nodes that are away are deleted; rows of deleted nodes go once nothing that
was certified of them can count; ends of validity are announced (`notices`). With a clock that is suspect, nothing is
done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.audit.models import AuditEvent
from veilnet.api.audit.service import record
from veilnet.api.clock import clock_fault
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.ids import new_id
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import NodeOut
from veilnet.api.nodes.service import node_out
from veilnet.api.periodic import repeated
from veilnet.api.platform.redaction import diff
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.times import DAY
from veilnet.api.upkeep.notices import announce
from veilnet.api.upkeep.repository import Due, UpkeepRepository
from veilnet.protocol.documents import CLOCK_SKEW
from veilnet.protocol.replica import FORGET_AFTER

PERIOD: Final = 30.0
NOTICES_EVERY: Final = 600
GAP: Final = round(3 * PERIOD)
"""Seconds without a write after which it has to be taken that none was possible."""
BATCH: Final = 200
"""Nodes of one kind in one turn."""
ACTOR: Final = "master"
Find = Callable[[UpkeepRepository], Awaitable[list[Due]]]
Work = Callable[[AsyncSession, Node, int], Awaitable[None]]
_log: Any = structlog.get_logger("veilnet.api")


@dataclass
class Upkeep:
    """`counts_from`: while there was no Master, or no write, no node was noted; absence counts from then on."""

    context: Context
    counts_from: int
    announced_at: int | None = None
    wrote_at: int = 0
    name: str = field(default_factory=lambda: new_id("rep"))
    away_max: int = 0
    """Of an ephemeral node, where its realm has none of its own: while replicas differ, the longest."""

    def __post_init__(self) -> None:
        self.wrote_at = self.wrote_at or self.counts_from

    async def turn(self) -> None:
        context = self.context
        if clock_fault(context.clock, 0):
            return
        now = context.clock()
        await self._stand(now)
        await self._each(lambda found: found.expired(now, BATCH), self._expire)
        await self._each(lambda found: found.absent(now, self.counts_from, self.away_max, BATCH), self._remove)
        ended = now - CLOCK_SKEW - FORGET_AFTER - DAY  # by then nodes have forgotten its tombstone
        await self._each(lambda found: found.forgettable(ended, BATCH), self._forget)
        self.wrote_at = context.clock()
        if self.announced_at is None or now - self.announced_at >= NOTICES_EVERY:
            await announce(context)
            self.announced_at = now

    async def _stand(self, now: int) -> None:
        async with write_session(self.context.engine, self.context.hub) as session:
            found = UpkeepRepository(session, self.context.settings)
            self.away_max = await found.stand(self.name, now, now - GAP)
        if now - self.wrote_at > GAP:
            _log.info("absence-counts-anew", seconds_without_a_write=now - self.wrote_at)
            self.counts_from = now
        self.wrote_at = now

    async def _each(self, find: Find, work: Work) -> None:
        """A transaction each: the row is locked and looked at again, as another replica may have been first."""
        async with read_session(self.context.engine) as session:
            found = await find(UpkeepRepository(session, self.context.settings))
        for due in found:
            async with write_session(self.context.engine, self.context.hub) as session:
                await RealmRepository(session).locked(due.realm_id)
                row = await NodeRepository(session).locked(due.node_id)
                if row is not None:
                    await work(session, row, self.context.clock())

    async def _expire(self, session: AsyncSession, row: Node, now: int) -> None:
        if row.revoked_at is None and row.expired_at is None and row.expires_at is not None and row.expires_at <= now:
            before = node_out(row, self.context.hub)
            await lifecycle.expire(session, row, now)
            _audit(session, "expire_due_node", row, now, before, node_out(row, self.context.hub))

    async def _remove(self, session: AsyncSession, row: Node, now: int) -> None:
        realm = await RealmRepository(session).by_id(row.realm_id)
        own = realm.ephemeral_seconds if realm is not None else None
        away_max = self.away_max if own is None else own
        seen = max(row.last_seen_at or row.created_at, realm.lifetimes_changed_at if realm is not None else 0)
        absent = now - seen >= away_max and not self.context.hub.connected(row.id)
        if absent and row.ephemeral and row.revoked_at is None:
            before = node_out(row, self.context.hub)
            await lifecycle.delete(session, row, now)
            _audit(session, "delete_absent_node", row, now, before, None)

    async def _forget(self, session: AsyncSession, row: Node, _: int) -> None:
        if row.deleted_at is not None:
            await UpkeepRepository(session, self.context.settings).forget_node(row)


def _audit(  # noqa: PLR0917 - an audit entry's columns
    session: AsyncSession, action: str, row: Node, now: int, before: NodeOut, after: NodeOut | None
) -> None:
    record(
        session,
        AuditEvent(
            id=new_id("aud"),
            created_at=now,
            realm_id=row.realm_id,
            action=action,
            actor_kind="master",
            actor_id=ACTOR,
            actor_name=ACTOR,
            token_id=None,
            request_id="",
            source="",
            subject=row.id,
            changes=diff(before, after),
        ),
    )


@asynccontextmanager
async def upkeep(context: Context) -> AsyncIterator[None]:
    """While inside, this replica does its share."""
    work = Upkeep(context, context.clock())
    async with repeated("upkeep", PERIOD, lambda _: work.turn()):
        yield
