# SPDX-License-Identifier: Apache-2.0
"""What a node asks the Master for: the snapshot once, or pushed over a channel that the node opens.

Channel messages are JSON texts. Master to node: `{"type": "snapshot", "snapshot": envelope}`, `{"type": "heartbeat"}`.
The node has nothing to say yet; what it sends is read and thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Final

from fastapi import Query, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.deps import get_context, require_node
from veilnet.api.errors import ApiError, error_response
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.routing import Routes
from veilnet.api.snapshots import service

routes = Routes("/node", rule=NODE)
router = routes.router

CLOSE_REVOKED: Final = 4403


@routes.get("/snapshot", "get_snapshot", response_class=JSONResponse)
async def get_snapshot(call: CallDep) -> Response:
    snapshot = await service.current(call.context, call.node.realm_id)
    return Response(snapshot.envelope, media_type="application/json")


@router.websocket("/channel")
async def channel(socket: WebSocket, since: Annotated[int, Query(ge=0)] = 0) -> None:
    """Pushes every snapshot newer than `since`."""
    context = get_context(socket)
    try:
        node = await require_node(socket)
    except ApiError as error:
        await socket.send_denial_response(error_response(error))
        return
    await socket.accept()
    reader = asyncio.create_task(_read_until_closed(socket))
    try:
        await _push(socket, context, node, since, reader)
    except (WebSocketDisconnect, RuntimeError):  # RuntimeError: sent into a connection that was just closed
        pass
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
        await _touch(context, node.id)


async def _push(socket: WebSocket, context: Context, node: Node, sent: int, reader: asyncio.Task[None]) -> None:
    await _touch(context, node.id)
    with context.hub.subscribe(node.realm_id, node.id) as changed:
        while not reader.done():
            changed.clear()
            if await _is_revoked(context, node.id):
                await socket.close(CLOSE_REVOKED, "node-revoked")
                return
            snapshot = await service.current(context, node.realm_id)
            if snapshot.version > sent:
                await socket.send_text(f'{{"type":"snapshot","snapshot":{snapshot.envelope}}}')
                sent = snapshot.version
            else:
                await socket.send_text('{"type":"heartbeat"}')
            await _wait(changed, reader, context.settings.heartbeat_seconds)


async def _wait(changed: asyncio.Event, reader: asyncio.Task[None], seconds: float) -> None:
    waiter = asyncio.create_task(changed.wait())
    await asyncio.wait({waiter, reader}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiter


async def _read_until_closed(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()


async def _is_revoked(context: Context, row_id: str) -> bool:
    async with read_session(context.engine) as session:
        row = await NodeRepository(session).by_id(row_id)
    return row is None or row.revoked_at is not None


async def _touch(context: Context, row_id: str) -> None:
    async with write_session(context.engine, context.hub) as session:
        row = await NodeRepository(session).by_id(row_id)
        if row is not None:
            row.last_seen_at = context.clock()
