# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.errors import Conflict, NotFound
from veilnet.api.ids import new_id
from veilnet.api.outbox.service import check_position, newest_event
from veilnet.api.platform.access import Rule, identify
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.realms.service import visible_realm
from veilnet.api.webhooks import signing
from veilnet.api.webhooks.keys import rotate, sealed
from veilnet.api.webhooks.models import Webhook, WebhookProgress
from veilnet.api.webhooks.repository import ProgressRepository, WebhookRepository
from veilnet.api.webhooks.schemas import (
    WebhookCreate,
    WebhookCreated,
    WebhookOut,
    WebhookPatch,
    WebhookReplace,
    WebhookReplay,
    WebhookTested,
)
from veilnet.api.webhooks.sender import deliver

_TEST: Final = Rule("administrator", Resource.WEBHOOKS, Verb.UPDATE)


async def create_webhook(call: Call, body: WebhookCreate) -> WebhookCreated:
    realm_id = None
    if body.realm is None:
        call.check_everywhere()
    else:
        realm_id = (await visible_realm(call, body.realm)).id
    await _check_name(call.session, realm_id, body.name)
    secret = signing.new_secret()
    row = Webhook(
        id=new_id("whk"),
        realm_id=realm_id,
        secret=sealed(call.context.sealer, secret),
        old_secret=None,
        rotation_ends_at=None,
        created_at=call.now,
        **body.model_dump(exclude={"realm"}),
    )
    newest = await newest_event(call.session)
    row.progress = WebhookProgress(
        id=row.id, position=newest, failures=0, next_at=0, leased_until=0, created_at=call.now
    )
    await WebhookRepository(call.session).add(row)
    call.show(row)
    found = webhook_out(row)
    call.audit(row.id, realm_id, after=found)
    call.emit("webhook.created", realm_id, row.id, {"name": row.name})
    return WebhookCreated(**found.model_dump(), secret=signing.secret_text(secret))


async def visible_webhook(call: Call, webhook_id: str) -> Webhook:
    row = await WebhookRepository(call.session).by_id(webhook_id)
    if row is None:
        raise NotFound("webhook", webhook_id)
    call.check_realm(row.realm_id, "webhook", webhook_id)
    return row


async def get_webhook(call: Call, webhook_id: str) -> WebhookOut:
    row = await visible_webhook(call, webhook_id)
    call.show(row)
    return webhook_out(row)


async def replace_webhook(call: Call, webhook_id: str, body: WebhookReplace) -> WebhookOut:
    row = await visible_webhook(call, webhook_id)
    call.match(row)
    return await _apply(call, row, body)


async def patch_webhook(call: Call, webhook_id: str, patch: WebhookPatch) -> WebhookOut:
    row = await visible_webhook(call, webhook_id)
    call.match(row)
    current = WebhookReplace.model_validate({name: getattr(row, name) for name in WebhookReplace.model_fields})
    return await _apply(call, row, patched(WebhookReplace, current, patch))


async def _apply(call: Call, row: Webhook, body: WebhookReplace) -> WebhookOut:
    if body.name != row.name:
        await _check_name(call.session, row.realm_id, body.name)
    progress = await _progress(call, row)
    before = webhook_out(row)
    if body.url != row.url or (body.enabled and not row.enabled):  # a fresh start for another receiver
        progress.failures, progress.failing_since, progress.next_at = 0, None, 0
    for name, value in body.model_dump().items():
        setattr(row, name, value)
    await call.session.flush()
    call.show(row)
    after = webhook_out(row)
    call.audit(row.id, row.realm_id, before, after)
    call.emit("webhook.changed", row.realm_id, row.id, {"name": row.name})
    return after


async def delete_webhook(call: Call, webhook_id: str) -> None:
    row = await visible_webhook(call, webhook_id)
    call.match(row)
    call.audit(row.id, row.realm_id, webhook_out(row))
    call.emit("webhook.deleted", row.realm_id, row.id, {"name": row.name})
    await _progress(call, row)  # goes with it, whatever a sender has just noted there
    await call.session.delete(row)


async def rotate_secret(call: Call, webhook_id: str) -> WebhookCreated:
    row = await visible_webhook(call, webhook_id)
    before = webhook_out(row)
    secret = signing.new_secret()
    rotate(call.context.sealer, row, secret, call.now)
    await call.session.flush()
    call.show(row)
    after = webhook_out(row)
    call.audit(row.id, row.realm_id, before, after)
    call.emit("webhook.secret_rotated", row.realm_id, row.id, {"name": row.name})
    return WebhookCreated(**after.model_dump(), secret=signing.secret_text(secret))


async def replay(call: Call, webhook_id: str, body: WebhookReplay) -> WebhookOut:
    row = await visible_webhook(call, webhook_id)
    await check_position(call.session, body.after_event_id)
    progress = await _progress(call, row)
    before = webhook_out(row)
    progress.position, progress.next_at = body.after_event_id, 0
    progress.failures, progress.failing_since = 0, None
    await call.session.flush()
    call.show(row)
    after = webhook_out(row)
    call.audit(row.id, row.realm_id, before, after)
    call.emit("webhook.replayed", row.realm_id, row.id, {"after_event_id": body.after_event_id})
    return after


async def send_test(context: Context, request: Request) -> WebhookTested | None:
    """One `webhook.test` now, outside the order of events and before any transaction: a receiver may take its time.

    None where the caller may not; the endpoint says why.
    """
    principal = await identify(context, request, _TEST, writes=False)
    async with read_session(context.engine) as session:
        row = await WebhookRepository(session).by_id(str(request.path_params["webhook_id"]))
    if row is None or not principal.may(Resource.WEBHOOKS, Verb.UPDATE, row.realm_id):
        return None
    message: dict[str, Any] = {"type": "webhook.test", "realm_id": row.realm_id, "subject": row.id, "data": {}}
    answer = await deliver(context, row, f"tst_{new_id('x')[2:]}", message, context.clock())
    return WebhookTested(delivered=answer.delivered, status=answer.status, error=answer.error)


async def note_test(call: Call, webhook_id: str) -> WebhookTested:
    row = await visible_webhook(call, webhook_id)
    if not isinstance(call.prepared, WebhookTested):  # it was made between the two looks
        raise NotFound("webhook", webhook_id)
    call.audit(row.id, row.realm_id)
    return call.prepared


def webhook_out(row: Webhook) -> WebhookOut:
    places = {name: row if hasattr(row, name) else row.progress for name in WebhookOut.model_fields}
    return WebhookOut.model_validate({name: getattr(place, name) for name, place in places.items()})


async def _progress(call: Call, row: Webhook) -> WebhookProgress:
    """Fresh and locked: a sender changes it at any time."""
    found = await ProgressRepository(call.session).locked(row.id)
    assert found is not None
    return found


async def _check_name(session: AsyncSession, realm_id: str | None, name: str) -> None:
    if await WebhookRepository(session).named(realm_id, name) is not None:
        raise Conflict("name-taken", f"there is a webhook {name}")
