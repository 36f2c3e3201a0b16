# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, String, and_, cast, delete, or_, select, update

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

    async def with_role(self, role: str, now: int) -> list[ApiToken]:
        """Standing tokens in use one of whose grants may name this role."""
        usable = (ApiToken.revoked_at.is_(None), ApiToken.expires_at > now, ApiToken.kind == "standing")
        query = self.all().where(*usable, cast(ApiToken.grants, String).contains(f'"{role}"'))
        return list(await self.session.scalars(query))

    def of(self, holder_id: str) -> Select[ApiToken]:
        """What a user or service account owns; what a token without owner asked for, and itself."""
        asked_for = and_(ApiToken.created_by == holder_id, ApiToken.owner_id.is_(None))
        return self.all().where(or_(ApiToken.id == holder_id, ApiToken.owner_id == holder_id, asked_for))

    def chosen(self, owner_id: str | None, kind: str | None) -> Select[ApiToken]:
        query = self.all() if owner_id is None else self.all().where(ApiToken.owner_id == owner_id)
        return query if kind is None else query.where(ApiToken.kind == kind)

    async def forget_ended(self, before: int, limit: int) -> int:
        """Tokens of sessions and client credentials are made by the thousand: those that ended before go; how many."""
        old = select(ApiToken.id).where(ApiToken.kind != "standing", ApiToken.expires_at < before).limit(limit)
        ids = list(await self.session.scalars(old))
        await self.session.execute(delete(ApiToken).where(ApiToken.id.in_(ids)))
        return len(ids)

    async def end_sessions(self, now: int) -> int:
        """Of people and programs alike; how many. Those that signed out meanwhile would count again."""
        query = update(ApiToken).where(ApiToken.kind != "standing", ApiToken.revoked_at.is_(None))
        done = await self.session.execute(query.values(revoked_at=now))
        return int(done.rowcount)  # type: ignore[attr-defined]

    async def revoke_of_provider(self, provider_id: str, now: int) -> None:
        """Every session of a provider that goes or is disabled."""
        query = update(ApiToken).where(ApiToken.provider_id == provider_id, ApiToken.revoked_at.is_(None))
        await self.session.execute(query.values(revoked_at=now))

    async def touch(self, token_id: str, now: int) -> None:
        """Note the use, without a new version: nobody configured anything."""
        await self.session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))
