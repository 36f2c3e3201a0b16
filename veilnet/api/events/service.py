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
from veilnet.api.errors import ApiError, Invalid
from veilnet.api.events.schemas import EventOut, event_out
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.outbox.service import TOPIC, check_position, newest_event
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
        if position is None:
            return await newest_event(session)
        await check_position(session, position)
    return position


async def follow(
    context: Context,
    position: int,
    wanted: Filter,
    still_allowed: Callable[[], Awaitable[None]],
) -> AsyncIterator[str]:
    """Lines of an event stream (WHATWG HTML, section 9.2). `still_allowed` raises when the credential ended.

    The first block and heartbeats carry the position alone: a stream that breaks before its first event, or whose
    filter lets little through, goes on there, and not at an event that is no longer kept.
    """
    yield f"retry: {RETRY_MS}\nid: {position}\n\n"
    ends = time.monotonic() + LIFETIME_SECONDS
    with context.hub.waiting(TOPIC) as woken:
        while True:
            woken.clear()
            rows, newest = await _page(context, position, wanted)
            for row in rows:
                yield as_text(event_out(row))
                position = row.id
            if len(rows) == PAGE:
                continue
            position = max(position, newest)
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
            yield f": heartbeat\nid: {position}\n\n"


def as_text(event: EventOut) -> str:
    return f"id: {event.id}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def _page(context: Context, position: int, wanted: Filter) -> tuple[list[OutboxEvent], int]:
    """Events behind `position`, and up to which number that is all of them if they are fewer than `PAGE`."""
    async with read_session(context.engine) as session:
        newest = await newest_event(session)  # first
        rows = await OutboxRepository(session).after(position, PAGE, realms=wanted.realms, types=wanted.types)
    return rows, newest
