# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import update

from veilnet.api.access.models import ApiToken
from veilnet.api.db import Repository


class ApiTokenRepository(Repository[ApiToken]):
    model = ApiToken

    async def touch(self, token_id: str, now: int) -> None:
        """Note the use, without a new version: nobody configured anything."""
        await self.session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))
