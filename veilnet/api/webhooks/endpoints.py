# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page
from veilnet.api.webhooks import service
from veilnet.api.webhooks.repository import WebhookRepository
from veilnet.api.webhooks.schemas import (
    WebhookCreate,
    WebhookCreated,
    WebhookOut,
    WebhookPatch,
    WebhookReplace,
    WebhookReplay,
    WebhookTested,
)

routes = Routes("/webhooks", Resource.WEBHOOKS)


@routes.post("", "create_webhook")
async def create_webhook(body: WebhookCreate, call: CallDep) -> WebhookCreated:
    return await service.create_webhook(call, body)


@routes.get("", "list_webhooks")
async def list_webhooks(
    call: CallDep, page: PageDep, realm: Annotated[str | None, Query(max_length=64)] = None
) -> Page[WebhookOut]:
    webhooks = WebhookRepository(call.session)
    query = webhooks.of_realms(await realm_filter(call, realm))
    return await paginate(call, page, webhooks, query, service.webhook_out)


@routes.get("/{webhook_id}", "get_webhook")
async def get_webhook(webhook_id: str, call: CallDep) -> WebhookOut:
    return await service.get_webhook(call, webhook_id)


@routes.put("/{webhook_id}", "replace_webhook")
async def replace_webhook(webhook_id: str, body: WebhookReplace, call: CallDep) -> WebhookOut:
    return await service.replace_webhook(call, webhook_id, body)


@routes.patch("/{webhook_id}", "patch_webhook")
async def patch_webhook(webhook_id: str, body: WebhookPatch, call: CallDep) -> WebhookOut:
    return await service.patch_webhook(call, webhook_id, body)


@routes.delete("/{webhook_id}", "delete_webhook")
async def delete_webhook(webhook_id: str, call: CallDep) -> None:
    await service.delete_webhook(call, webhook_id)


@routes.post("/{webhook_id}/rotate-secret", "rotate_webhook_secret", status=200, verb=Verb.UPDATE)
async def rotate_webhook_secret(webhook_id: str, call: CallDep) -> WebhookCreated:
    """The old secret signs, too, for a day."""
    return await service.rotate_secret(call, webhook_id)


@routes.post("/{webhook_id}/replay", "replay_webhook", status=200, verb=Verb.UPDATE)
async def replay_webhook(webhook_id: str, body: WebhookReplay, call: CallDep) -> WebhookOut:
    """Deliver events again that were delivered or given up, as far as they are kept."""
    return await service.replay(call, webhook_id, body)


@routes.post("/{webhook_id}/test", "test_webhook", status=200, verb=Verb.UPDATE, before=service.send_test)
async def test_webhook(webhook_id: str, call: CallDep) -> WebhookTested:
    """Send one `webhook.test` now."""
    return await service.note_test(call, webhook_id)
