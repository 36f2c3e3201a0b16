# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.idempotency.models import IdempotencyKey


class IdempotencyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def claim(self, principal_id: str, key: str, route: str) -> bool:
        """Whether no other replica is carrying out this request. SQLite has one writer at a time: then it has ended."""
        if self.session.get_bind().dialect.name != "postgresql":
            return True
        digest = hashlib.sha256(f"{principal_id}\n{key}\n{route}".encode()).digest()
        lock = func.pg_try_advisory_xact_lock(int.from_bytes(digest[:8], "big", signed=True))
        return bool(await self.session.scalar(select(lock)))

    async def find(self, principal_id: str, key: str, route: str) -> IdempotencyKey | None:
        return await self.session.get(IdempotencyKey, (principal_id, key, route))

    async def add(self, row: IdempotencyKey) -> None:
        self.session.add(row)
        await self.session.flush()

    async def remove(self, row: IdempotencyKey) -> None:
        await self.session.delete(row)
        await self.session.flush()

    async def forget(self, before: int, limit: int) -> int:
        """Drop keys used before this time (unix seconds); how many."""
        k = IdempotencyKey
        old = select(k.principal_id, k.key, k.route).where(k.created_at < before).limit(limit)
        places = [tuple(row) for row in await self.session.execute(old)]
        if places:
            await self.session.execute(delete(k).where(tuple_(k.principal_id, k.key, k.route).in_(places)))
        return len(places)
