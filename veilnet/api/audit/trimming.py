# SPDX-License-Identifier: Apache-2.0
"""Drops old entries of the audit and keeps the anchor from which the rest verifies."""

from __future__ import annotations

from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.audit.chain import first_fault
from veilnet.api.audit.repository import AuditRepository

_log: Any = structlog.get_logger("veilnet.api")
_FAULT: Final = "audit: entry %s does not verify, nothing from there on is dropped"


async def trim(session: AsyncSession, before: int, now: int, limit: int) -> int:
    """How many were dropped: from the front, without a gap, never the last one, never what does not verify."""
    audit = AuditRepository(session)
    seq, head = await audit.anchor()
    last = await audit.last()
    entries = []
    for entry in await audit.after(seq, limit):
        if entry.created_at >= before or last is None or entry.seq == last.seq:
            break
        entries.append(entry)
    fault = first_fault(entries, seq, head)
    if fault is not None:
        _log.error(_FAULT % fault)
        entries = entries[: fault - seq - 1]
    if entries:
        await audit.drop_up_to(entries[-1].seq, entries[-1].hash, now)
    return len(entries)
