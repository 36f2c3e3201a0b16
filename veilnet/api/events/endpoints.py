# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse

from veilnet.api.events import service
from veilnet.api.platform.access import Rule, identify
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter

routes = Routes("/events", Resource.EVENTS)
_RULE: Final = Rule("administrator", Resource.EVENTS, Verb.READ)
_ONE: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["id", "event", "data"],
    "description": "One event of the stream; `data` is an Event as JSON text.",
}
"""Before OpenAPI 3.2 the schema of a stream of events is that of one."""
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events as they happen",
        "content": {"text/event-stream": {"schema": _ONE}},
    }
}
TYPES_MAX: Final = 32


@routes.get("", "follow_events", response_class=StreamingResponse, responses=_STREAM)
async def follow_events(
    call: CallDep,
    request: Request,
    types: Annotated[list[str] | None, Query(max_length=TYPES_MAX)] = None,
    realm: Annotated[str | None, Query(max_length=64)] = None,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> StreamingResponse:
    """Server-sent events. `Last-Event-ID` goes on behind that one; 410: read the lists again, then follow."""
    context = call.context
    wanted = service.Filter(await realm_filter(call, realm), tuple(types or ()))
    position = await service.start_of(context, service.read_position(last_event_id))

    async def still_allowed() -> None:
        await identify(context, request, _RULE, writes=False)

    lines = service.follow(context, position, wanted, still_allowed)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)
