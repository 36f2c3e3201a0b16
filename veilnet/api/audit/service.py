# SPDX-License-Identifier: Apache-2.0
"""Writes the audit entry of a mutation at the very end of its transaction."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.audit.chain import FIRST, entry_hash
from veilnet.api.audit.models import AuditEvent
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import before_commit
from veilnet.api.ids import new_id
from veilnet.api.platform.request_id import current_request_id

_HOOK: Final = "2 audit"
_PENDING: Final = "veil_audit"


def record(session: AsyncSession, entry: AuditEvent) -> None:
    """`seq` and `hash` are filled in before the commit."""
    session.info.setdefault(_PENDING, []).append(entry)
    before_commit(session, _HOOK, _append)


def by_operator(action: str, now: int, changes: dict[str, Any]) -> AuditEvent:
    """An entry for what was done on the Master's host itself, by no request."""
    return AuditEvent(
        id=new_id("aud"),
        created_at=now,
        realm_id=None,
        action=action,
        actor_kind="operator",
        actor_id="host",
        actor_name="the Master's host",
        token_id=None,
        request_id=current_request_id(),
        source="",
        subject=None,
        changes=changes,
    )


async def _append(session: AsyncSession) -> None:
    pending: list[AuditEvent] = session.info.pop(_PENDING)
    audit = AuditRepository(session)
    seq = await CounterRepository(session).take("audit", len(pending))  # the lock that orders the chain
    last = await audit.last()
    previous = FIRST if last is None else last.hash
    for number, entry in enumerate(pending, seq):
        entry.seq = number
        previous = entry.hash = entry_hash(previous, entry)
        await audit.add(entry)
