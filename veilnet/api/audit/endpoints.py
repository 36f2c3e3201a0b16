# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from veilnet.api.audit import reading
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.audit.schemas import AuditEventOut, AuditFilter
from veilnet.api.operations.schemas import OperationOut
from veilnet.api.operations.service import start_operation
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page

routes = Routes("/audit-events", Resource.AUDIT_EVENTS)
JSON_LINES = "application/x-ndjson"


@routes.get("", "list_audit_events")
async def list_audit_events(
    call: CallDep, page: PageDep, filters: Annotated[AuditFilter, Query()]
) -> Page[AuditEventOut]:
    audit = AuditRepository(call.session)
    query = audit.filtered(await realm_filter(call, filters.realm), filters)
    return await paginate(call, page, audit, query, reading.event_out)


@routes.get(
    "/export",
    "export_audit_events",
    response_class=StreamingResponse,
    responses={200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}}},
)
async def export_audit_events(call: CallDep, after: Annotated[int, Query(ge=0, lt=2**53)] = 0) -> StreamingResponse:
    """One entry a line, from the one behind number `after` on: what a SIEM fetches now and then."""
    lines: AsyncIterator[bytes] = reading.export(call.context.engine, call.realms, after)
    return StreamingResponse(lines, media_type=JSON_LINES)


@routes.post("/verify", "verify_audit_events", status=202, verb=Verb.READ)
async def verify_audit_events(call: CallDep, response: Response) -> OperationOut:
    """Recompute the chain of all that is kept. The operation's result: `{"entries": how many, "first": number of the
    oldest, "first_fault": number or null, "head": hash}`."""
    call.check_everywhere()
    return await start_operation(call, response, "audit.verify", reading.verifier(call.context.engine))


@routes.get("/{event_id}", "get_audit_event")
async def get_audit_event(event_id: str, call: CallDep) -> AuditEventOut:
    return reading.event_out(await reading.get_event(call, event_id))
