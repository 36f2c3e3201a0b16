# SPDX-License-Identifier: Apache-2.0
"""Deliveries: each webhook's events in order, at least once, by one replica at a time.

A receiver that fails is tried again after 5 s, then twice as long each time up to an hour, and given up after three
days: then the webhook is disabled, which is an event itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.errors import ApiError
from veilnet.api.events.schemas import event_out
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.outbox.service import TOPIC, emit
from veilnet.api.settings import SetupError
from veilnet.api.times import DAY
from veilnet.api.webhooks import signing
from veilnet.api.webhooks.keys import keys_of
from veilnet.api.webhooks.models import Webhook
from veilnet.api.webhooks.repository import ProgressRepository, WebhookRepository
from veilnet.api.webhooks.targets import TargetRefused, resolve

TIMEOUT: Final = 10.0
LEASE_SECONDS: Final = 60
FIRST_WAIT: Final = 5
LONGEST_WAIT: Final = 3600
GIVE_UP_SECONDS: Final = 3 * DAY
IDLE_SECONDS: Final = 5.0
"""Between two looks for webhooks whose waiting time is over."""
BATCH: Final = 50
STOP_SECONDS: Final = 3.0
ANSWER_MAX: Final = 64 * 1024
AT_ONCE: Final = 16
_log: Any = structlog.get_logger("veilnet.api")


@dataclass(frozen=True)
class Answer:
    delivered: bool
    status: int | None
    error: str | None


@asynccontextmanager
async def sending(context: Context) -> AsyncIterator[None]:
    """While inside, this replica delivers. At the end a delivery that is under way gets a little time."""
    with context.hub.waiting(TOPIC) as woken:
        stopping = asyncio.Event()
        task = asyncio.create_task(_run(context, woken, stopping))
        try:
            yield
        finally:
            stopping.set()
            woken.set()
            await asyncio.wait([task], timeout=STOP_SECONDS)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _run(context: Context, woken: asyncio.Event, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        woken.clear()
        try:
            await send_due(context)
        except (SQLAlchemyError, ApiError, SetupError, OSError) as error:
            _log.warning("webhooks", error=type(error).__name__)
        if not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await woken.wait()


async def send_due(context: Context) -> None:
    """Everything that may be sent now."""
    async with read_session(context.engine) as session:
        due = await ProgressRepository(session).due(context.clock())
    some = asyncio.Semaphore(AT_ONCE)

    async def one(webhook_id: str) -> None:
        async with some:
            await _send(context, webhook_id)

    await asyncio.gather(*(one(webhook_id) for webhook_id in due))


async def _send(context: Context, webhook_id: str) -> None:
    """Events of one webhook until there are none or one fails."""
    async with read_session(context.engine) as session:  # most have nothing to do: no lease, no write
        if not (await _waiting(session, webhook_id))[1]:
            return
    now = context.clock()
    async with write_session(context.engine, context.hub) as session:
        if not await ProgressRepository(session).lease(webhook_id, now, now + LEASE_SECONDS):
            return
    more = True
    while more:
        async with read_session(context.engine) as session:
            row, events = await _waiting(session, webhook_id)
        more = row is not None and bool(events) and await _send_batch(context, row, events)
    async with write_session(context.engine, context.hub) as session:
        if (progress := await ProgressRepository(session).locked(webhook_id)) is not None:
            progress.leased_until = 0


async def _waiting(session: Any, webhook_id: str) -> tuple[Webhook | None, list[OutboxEvent]]:
    row = await WebhookRepository(session).by_id(webhook_id)
    progress = await ProgressRepository(session).by_id(webhook_id)
    if row is None or progress is None or not row.enabled:
        return None, []
    realms = None if row.realm_id is None else frozenset({row.realm_id})
    return row, await OutboxRepository(session).after(progress.position, BATCH, realms=realms, types=row.types)


async def _send_batch(context: Context, row: Webhook, events: list[OutboxEvent]) -> bool:
    """Whether to go on."""
    for event in events:
        message = event_out(event).model_dump(mode="json")
        answer = await deliver(context, row, f"evt_{event.id}", message, context.clock())
        await _note(context, row, event, answer)
        if not answer.delivered:
            return False
    return len(events) == BATCH


async def deliver(context: Context, row: Webhook, message_id: str, message: Mapping[str, Any], now: int) -> Answer:
    """One POST. Redirects are failures: they would lead to an address that nobody checked."""
    body = json.dumps(message, separators=(",", ":")).encode()
    try:
        address = await resolve(row.url, private=context.settings.webhooks_to_private_addresses)
        headers = signing.headers(message_id, now, body, keys_of(context.sealer, row, now))
        headers |= {"Content-Type": "application/json", "Host": address.host, "User-Agent": "VeilNet-Master"}
        extensions = {"sni_hostname": address.host.partition(":")[0]}
        async with (
            httpx.AsyncClient(verify=_trust(), timeout=TIMEOUT, trust_env=False) as client,
            asyncio.timeout(TIMEOUT),
            client.stream("POST", address.url, content=body, headers=headers, extensions=extensions) as response,
        ):
            delivered = response.is_success
            return Answer(delivered, response.status_code, None if delivered else f"status {response.status_code}")
    except (TargetRefused, httpx.HTTPError, TimeoutError, OSError) as error:
        return Answer(False, None, f"{type(error).__name__}: {error}"[:200])


@cache
def _trust() -> ssl.SSLContext:
    """Reading the system's certificates takes tens of milliseconds of the one event loop: once."""
    return ssl.create_default_context()


async def _note(context: Context, row: Webhook, event: OutboxEvent, answer: Answer) -> None:
    now = context.clock()
    async with write_session(context.engine, context.hub) as session:
        progress = await ProgressRepository(session).locked(row.id)
        if progress is None:
            return
        progress.last_status, progress.last_error = answer.status, answer.error
        progress.leased_until = now + LEASE_SECONDS
        if answer.delivered:
            progress.position = max(progress.position, event.id)
            progress.failures, progress.failing_since, progress.delivered_at = 0, None, now
            return
        progress.failing_since = progress.failing_since or now
        progress.next_at = now + min(FIRST_WAIT << min(progress.failures, 12), LONGEST_WAIT)
        progress.failures += 1
        if now - progress.failing_since >= GIVE_UP_SECONDS:
            await _give_up(session, row, now)


async def _give_up(session: Any, row: Webhook, now: int) -> None:
    fresh = await WebhookRepository(session).locked(row.id)
    if fresh is not None:
        fresh.enabled = False
        emit(session, "webhook.given_up", row.realm_id, row.id, {"name": row.name}, now)
