# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import select, update

from veilnet.api.access.models import ApiToken
from veilnet.api.db import Repository


class ApiTokenRepository(Repository[ApiToken]):
    model = ApiToken

    async def any(self) -> bool:
        return await self.session.scalar(select(ApiToken.id).limit(1)) is not None

    async def revoke_of(self, owner_id: str, now: int) -> None:
        """Every token of a user or service account that goes."""
        query = update(ApiToken).where(ApiToken.owner_id == owner_id, ApiToken.revoked_at.is_(None))
        await self.session.execute(query.values(revoked_at=now, owner_id=None))

    async def touch(self, token_id: str, now: int) -> None:
        """Note the use, without a new version: nobody configured anything."""
        await self.session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))
