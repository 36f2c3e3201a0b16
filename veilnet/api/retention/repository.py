# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.retention.models import Job


class JobRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def take_turn(self, name: str, now: int, seconds: int) -> bool:
        """Whether this replica does the work now; nobody else does within `seconds`.

        A time too far ahead is from a clock that was wrong.
        """
        free = (Job.next_at <= now) | (Job.next_at > now + seconds)
        query = update(Job).where(Job.name == name, free).values(next_at=now + seconds)
        done = await self.session.execute(query)
        return bool(done.rowcount)  # type: ignore[attr-defined]
