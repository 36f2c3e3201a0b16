# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.platform.roles import RealmIds


class OutboxRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, events: Sequence[OutboxEvent]) -> None:
        self.session.add_all(events)
        await self.session.flush()

    async def after(
        self, event_id: int, limit: int, *, realms: RealmIds = None, types: Sequence[str] = ()
    ) -> list[OutboxEvent]:
        """Events behind `event_id` in order."""
        query = select(OutboxEvent).where(OutboxEvent.id > event_id).order_by(OutboxEvent.id).limit(limit)
        if realms is not None:
            query = query.where(OutboxEvent.realm_id.in_(realms))
        if types:
            query = query.where(OutboxEvent.type.in_(types))
        return list(await self.session.scalars(query))

    async def goes_on(self, position: int) -> int | None:
        """None if everything behind `position` is kept; else the oldest id that is (0: there is none).

        Numbers have no gaps but where a restored database goes on: who stands in such a gap saw what is no more.
        """
        oldest = await self.session.scalar(select(func.min(OutboxEvent.id)))
        if oldest is not None and (position == oldest - 1 or await self.session.get(OutboxEvent, position)):
            return None
        return oldest or 0

    async def forget(self, before: int, limit: int) -> int:
        """Drop events made before this time (unix seconds), from the oldest on without a gap; how many."""
        query = select(OutboxEvent.id, OutboxEvent.created_at).order_by(OutboxEvent.id).limit(limit)
        oldest = [row.id for row in takewhile(lambda row: row.created_at < before, await self.session.execute(query))]
        if oldest:
            await self.session.execute(delete(OutboxEvent).where(OutboxEvent.id <= oldest[-1]))
        return len(oldest)
