# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.counters.models import Counter


class CounterRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def take(self, name: str, count: int) -> int:
        """The first of `count` numbers. Call it late, in a hook before the commit: others wait for this row."""
        query = update(Counter).where(Counter.name == name).values(value=Counter.value + count)
        last = await self.session.scalar(query.returning(Counter.value))
        assert last is not None, f"the migrations make the counter {name}"
        return int(last) - count + 1

    async def raise_to(self, name: str, least: int) -> None:
        query = update(Counter).where(Counter.name == name, Counter.value < least)
        await self.session.execute(query.values(value=least))

    async def value(self, name: str) -> int:
        """The last number taken."""
        return int(await self.session.scalar(select(Counter.value).where(Counter.name == name)) or 0)
