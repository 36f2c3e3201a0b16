# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, delete, update

from veilnet.api.db import Repository
from veilnet.api.oauth.models import ServiceAccountSecret


class SecretRepository(Repository[ServiceAccountSecret]):
    model = ServiceAccountSecret

    def of(self, service_account_id: str) -> Select[ServiceAccountSecret]:
        return self.all().where(ServiceAccountSecret.service_account_id == service_account_id)

    async def usable(self, service_account_id: str, now: int) -> list[ServiceAccountSecret]:
        query = self.of(service_account_id).where(ServiceAccountSecret.expires_at > now)
        return list(await self.session.scalars(query))

    async def touch(self, secret_id: str, now: int) -> None:
        query = update(ServiceAccountSecret).where(ServiceAccountSecret.id == secret_id)
        await self.session.execute(query.values(last_used_at=now))

    async def forget(self, service_account_id: str) -> None:
        query = delete(ServiceAccountSecret).where(ServiceAccountSecret.service_account_id == service_account_id)
        await self.session.execute(query)
