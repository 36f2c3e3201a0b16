# SPDX-License-Identifier: Apache-2.0
"""Events as a stream: from the outbox, in order, each once; the reader says how far it got.

Nothing is kept for a reader: it is woken, reads what is new from the database, and sleeps. A slow reader costs nobody
else anything, and may go on at any replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.errors import ApiError, Gone, Invalid
from veilnet.api.events.schemas import EventOut, event_out
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.outbox.service import TOPIC
from veilnet.api.platform.roles import RealmIds

HEARTBEAT_SECONDS: Final = 15.0
PAGE: Final = 200
LIFETIME_SECONDS = 3600.0
"""After which a stream ends, so that readers spread over the replicas there are; they go on where they were."""
RETRY_MS: Final = 2000
"""After which an EventSource connects again."""


@dataclass(frozen=True)
class Filter:
    realms: RealmIds
    types: tuple[str, ...] = ()


def read_position(text: str | None) -> int | None:
    """A `Last-Event-ID`. Raises Invalid."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Invalid("invalid", f"Last-Event-ID {text[:32]!r} is not the id of an event")
    return int(text)


async def start_of(context: Context, position: int | None) -> int:
    """Where to go on; without a position, behind the newest. Raises Gone when events between are no longer kept."""
    async with read_session(context.engine) as session:
        bounds = await OutboxRepository(session).bounds()
    oldest, newest = bounds or (1, 0)
    if position is None:
        return newest
    if position < oldest - 1 or (position > newest and bounds is not None):
        detail = f"events {oldest} to {newest} are kept, you ask for those behind {position}: read your lists again"
        raise Gone("gone", detail)
    return position


async def follow(
    context: Context,
    position: int,
    wanted: Filter,
    still_allowed: Callable[[], Awaitable[None]],
) -> AsyncIterator[str]:
    """Lines of an event stream (WHATWG HTML, section 9.2). `still_allowed` raises when the credential ended.

    The first block carries the position alone, so that a stream that breaks before its first event goes on there.
    """
    yield f"retry: {RETRY_MS}\nid: {position}\n\n"
    ends = time.monotonic() + LIFETIME_SECONDS
    with context.hub.waiting(TOPIC) as woken:
        while True:
            woken.clear()
            rows = await _page(context, position, wanted)
            for row in rows:
                yield as_text(event_out(row))
                position = row.id
            if len(rows) == PAGE:
                continue
            if time.monotonic() >= ends:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await woken.wait()
                continue
            try:
                await still_allowed()
            except ApiError:
                return
            yield ": heartbeat\n\n"


def as_text(event: EventOut) -> str:
    return f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def _page(context: Context, position: int, wanted: Filter) -> list[OutboxEvent]:
    async with read_session(context.engine) as session:
        return await OutboxRepository(session).after(position, PAGE, realms=wanted.realms, types=wanted.types)
