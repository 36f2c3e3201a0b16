# SPDX-License-Identifier: Apache-2.0
"""Reading the audit: one entry, all of them as lines, and whether the chain holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.audit.chain import first_fault
from veilnet.api.audit.models import AuditEvent
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.audit.schemas import AuditEventOut
from veilnet.api.db import read_session
from veilnet.api.errors import NotFound
from veilnet.api.operations.runner import Progress, Work
from veilnet.api.platform.call import Call
from veilnet.api.platform.roles import RealmIds

_CHUNK: Final = 500


async def get_event(call: Call, event_id: str) -> AuditEvent:
    row = await AuditRepository(call.session).by_id(event_id)
    if row is None:
        raise NotFound("audit event", event_id)
    call.check_realm(row.realm_id, "audit event", event_id)
    return row


def event_out(row: AuditEvent) -> AuditEventOut:
    return AuditEventOut.model_validate(row)


async def export(engine: AsyncEngine, realms: RealmIds, after: int) -> AsyncIterator[bytes]:
    """Chunk by chunk, each in a session of its own: a slow reader holds no transaction open."""
    while True:
        async with read_session(engine) as session:
            rows = await AuditRepository(session).after(after, _CHUNK, realms)
        if not rows:
            return
        yield b"".join(event_out(row).model_dump_json().encode() + b"\n" for row in rows)
        after = rows[-1].seq


def verifier(engine: AsyncEngine) -> Work:
    async def verify(progress: Progress) -> dict[str, Any]:
        async with read_session(engine) as session:
            seq, head = await AuditRepository(session).anchor()
        first = seq + 1
        while True:
            async with read_session(engine) as session:
                audit = AuditRepository(session)
                rows, last, anchor = await audit.after(seq, _CHUNK), await audit.last(), await audit.anchor()
            if anchor[0] > seq:  # entries were dropped meanwhile, which are verified when they are
                (seq, head), first = anchor, anchor[0] + 1
                continue
            fault = first_fault(rows, seq, head)
            if not rows or fault is not None:
                return {"entries": seq - first + 1, "first": first, "first_fault": fault, "head": head}
            seq, head = rows[-1].seq, rows[-1].hash
            await progress.advance(seq, last.seq if last else seq)

    return verify
