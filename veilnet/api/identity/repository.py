# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.db import Repository
from veilnet.api.identity.models import IdentityProvider, UsedIdToken


class IdentityProviderRepository(Repository[IdentityProvider]):
    model = IdentityProvider

    async def named(self, name: str) -> IdentityProvider | None:
        return await self.session.scalar(select(IdentityProvider).where(IdentityProvider.name == name))

    async def by_issuer(self, issuer: str) -> IdentityProvider | None:
        return await self.session.scalar(select(IdentityProvider).where(IdentityProvider.issuer == issuer))

    async def in_use(self) -> list[IdentityProvider]:
        query = select(IdentityProvider).where(IdentityProvider.disabled_at.is_(None))
        return list(await self.session.scalars(query.order_by(IdentityProvider.name)))


class UsedIdTokenRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def take(self, digest: str, expires_at: int) -> bool:
        """Whether it was not used before. Two at once: the second one's transaction fails at the primary key."""
        if await self.session.get(UsedIdToken, digest) is not None:
            return False
        self.session.add(UsedIdToken(digest=digest, expires_at=expires_at))
        await self.session.flush()
        return True

    async def forget(self, before: int, limit: int) -> int:
        """Drop those whose tokens ended before this time (unix seconds): they are refused anyway; how many."""
        old = select(UsedIdToken.digest).where(UsedIdToken.expires_at < before).limit(limit)
        digests = list(await self.session.scalars(old))
        await self.session.execute(delete(UsedIdToken).where(UsedIdToken.digest.in_(digests)))
        return len(digests)
