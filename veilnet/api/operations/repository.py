# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import Select, delete, select, update

from veilnet.api.db import Repository
from veilnet.api.operations.models import Operation
from veilnet.api.platform.roles import RealmIds


class OperationRepository(Repository[Operation]):
    model = Operation

    def visible(self, realms: RealmIds, state: str | None = None) -> Select[Operation]:
        query = self.all() if realms is None else self.all().where(Operation.realm_id.in_(realms))
        return query if state is None else query.where(Operation.state == state)

    async def advance(self, row_id: str, now: int, done: int, total: int | None) -> bool:
        """Note progress and life; whether it may go on."""
        running = update(Operation).where(Operation.id == row_id, Operation.state == "running")
        query = running.values(heartbeat_at=now, done=done, total=total).returning(Operation.cancel_asked)
        asked = await self.session.scalar(query)
        return asked is False

    async def end(self, row_id: str, now: int, **values: Any) -> None:
        running = update(Operation).where(Operation.id == row_id, Operation.state == "running")
        await self.session.execute(running.values(ended_at=now, **values))

    async def bury(self, before: int, now: int) -> None:
        """Operations without a heartbeat since `before`: their Master is gone."""
        dead = update(Operation).where(Operation.state == "running", Operation.heartbeat_at < before)
        error = "the Master that ran it ended; what it had committed stays"
        await self.session.execute(dead.values(state="failed", error=error, ended_at=now))

    async def forget(self, before: int, limit: int) -> int:
        """Drop operations that ended before this time (unix seconds); how many."""
        old = select(Operation.id).where(Operation.ended_at < before).limit(limit)
        ids = list(await self.session.scalars(old))
        await self.session.execute(delete(Operation).where(Operation.id.in_(ids)))
        return len(ids)
