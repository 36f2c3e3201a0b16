# SPDX-License-Identifier: Apache-2.0
"""`emit`: tell whoever listens, if and only if the change is committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import before_commit, wake
from veilnet.api.errors import Gone
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.platform.redaction import redacted
from veilnet.api.platform.request_id import current_request_id

TOPIC: Final = "outbox"
"""What readers of the outbox wait for at the hub."""
_HOOK: Final = "1 outbox"
_PENDING: Final = "veil_outbox"


def emit(  # noqa: PLR0917 - a sentence in this order
    session: AsyncSession, kind: str, realm_id: str | None, subject: str, data: Mapping[str, Any], now: int
) -> None:
    """Note an event, for example `node.revoked`; `data` is JSON and loses whatever is named like a secret."""
    event = OutboxEvent(
        type=kind,
        realm_id=realm_id,
        subject=subject,
        data=redacted(dict(data)),
        request_id=current_request_id(),
        created_at=now,
    )
    session.info.setdefault(_PENDING, []).append(event)
    before_commit(session, _HOOK, _append)
    wake(session, TOPIC)


async def newest_event(session: AsyncSession) -> int:
    """Number of the last event, kept or not; all up to it are visible to the queries that follow."""
    return await CounterRepository(session).value("outbox")


async def check_position(session: AsyncSession, position: int) -> None:
    """Raises Gone unless everything behind this event is kept."""
    newest = await newest_event(session)
    if position == newest:
        return
    oldest = await OutboxRepository(session).goes_on(position)
    if oldest is not None:
        detail = f"events {oldest} to {newest} are kept, you ask for those behind {position}: read your lists again"
        raise Gone("gone", detail)


async def _append(session: AsyncSession) -> None:
    pending: list[OutboxEvent] = session.info.pop(_PENDING)
    first = await CounterRepository(session).take("outbox", len(pending))
    for number, event in enumerate(pending, first):
        event.id = number
    await OutboxRepository(session).add(pending)
