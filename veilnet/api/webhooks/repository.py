# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, select, update

from veilnet.api.db import Repository
from veilnet.api.platform.roles import RealmIds
from veilnet.api.webhooks.models import Webhook, WebhookProgress


class WebhookRepository(Repository[Webhook]):
    model = Webhook

    def of_realms(self, realms: RealmIds) -> Select[Webhook]:
        return self.all() if realms is None else self.all().where(Webhook.realm_id.in_(realms))

    async def named(self, realm_id: str | None, name: str) -> Webhook | None:
        return await self.session.scalar(select(Webhook).where(Webhook.realm_id == realm_id, Webhook.name == name))


class ProgressRepository(Repository[WebhookProgress]):
    model = WebhookProgress

    async def due(self, now: int) -> list[str]:
        """Ids of webhooks that may be sent to now and that nobody is sending to."""
        query = (
            select(WebhookProgress.id)
            .join(Webhook, Webhook.id == WebhookProgress.id)
            .where(Webhook.enabled, WebhookProgress.next_at <= now, WebhookProgress.leased_until <= now)
            .order_by(WebhookProgress.next_at)
        )
        return list(await self.session.scalars(query))

    async def lease(self, webhook_id: str, now: int, until: int) -> bool:
        """Whether this replica is the one that sends until then."""
        done = await self.session.execute(
            update(WebhookProgress)
            .where(WebhookProgress.id == webhook_id, WebhookProgress.leased_until <= now)
            .values(leased_until=until, row_version=WebhookProgress.row_version + 1)
        )
        return bool(done.rowcount)  # type: ignore[attr-defined]
