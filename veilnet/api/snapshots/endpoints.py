# SPDX-License-Identifier: Apache-2.0
"""What a node asks the Master for: its view of the realm once, or pushed over a channel that the node opens.

Channel messages are JSON texts from Master to node:
    {"type": "head", "head": envelope}
    {"type": "records", "from": F, "version": V, "records": [record, ...]}
        all that changed for this node after F, up to V; where it takes several messages, V is F in all but the last
    {"type": "heartbeat", "version": V, "time": unix seconds}
The node has nothing to say yet; what it sends is read and thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Annotated, Any, Final

from fastapi import Query, WebSocket, WebSocketDisconnect
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.deps import get_context, require_node
from veilnet.api.errors import ApiError, error_response
from veilnet.api.nodes.repository import Caller, NodeRepository
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.routing import Routes
from veilnet.api.snapshots.feed import Channel, Feed, Feeds

routes = Routes("/node", rule=NODE)
router = routes.router

PIECE: Final = 3
"""Records of one message, 64 KB: a TLS connection keeps a buffer as long as the longest that it has sent at once."""
CLOSE_CODES: Final = {"node-revoked": 4403, "resync": 4409}
"""4409: too slow or out of step; connect again, and the rest follows."""


def get_feeds(connection: HTTPConnection) -> Feeds:
    feeds: Feeds = connection.app.state.feeds
    return feeds


@routes.get("/snapshot", "get_snapshot")
async def get_snapshot(call: CallDep, connection: HTTPConnection) -> dict[str, Any]:
    """Everything that this node may see: the realm's head and its records."""
    node = call.node
    feed, head, texts = get_feeds(connection).of(node.realm_id), None, []
    await feed.turn(due=True)
    with feed.join(bytes.fromhex(node.node_id), 0) as channel:
        async for _, found, records in feed.opening(channel):
            head = found or head
            texts += records
    records = [json.loads(text) for text in texts]
    return {"version": feed.version, "head": json.loads(head) if head else None, "records": records}


@router.websocket("/channel")
async def channel(socket: WebSocket, since: Annotated[int, Query(ge=0)] = 0) -> None:
    """Pushes what is newer than `since`, then every change."""
    context = get_context(socket)
    try:
        node = await require_node(socket)
    except ApiError as error:
        await socket.send_denial_response(error_response(error))
        return
    await socket.accept()
    feed = get_feeds(socket).of(node.realm_id)
    with context.hub.online(node.id), feed.join(bytes.fromhex(node.node_id), since) as joined:
        reader = asyncio.create_task(_read_until_closed(socket, joined))
        presence = _Presence(context, node)
        await presence.note()
        try:
            await _push(socket, context, feed, joined, presence)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: sent into a connection that was just closed
            pass
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
    await presence.note()


_TRIED_AGAIN: Final = 20
"""Seconds after which a sighting is tried again that the database did not take."""


class _Presence:
    """When the node was here last. Of an ephemeral one, whose absence ends it, that is kept up to date."""

    def __init__(self, context: Context, node: Caller) -> None:
        self.row_id = node.id
        self._context = context
        self._realm_id = node.realm_id if node.ephemeral else None
        self._noted_at = 0
        self._tried_at = 0

    async def note(self) -> None:
        self._tried_at = self._context.clock()
        if await self._context.sightings.note(self.row_id, self._tried_at):
            self._noted_at = self._tried_at

    async def renew(self) -> None:
        if self._realm_id is None:
            return
        with contextlib.suppress(SQLAlchemyError, OSError):  # a database that takes no writes ends no channel
            away_max = (await self._context.lifetimes.of(self._realm_id)).ephemeral
            now = self._context.clock()
            if now - self._noted_at >= away_max / 4 and now - self._tried_at >= min(away_max / 4, _TRIED_AGAIN):
                await self.note()


async def _push(socket: WebSocket, context: Context, feed: Feed, channel: Channel, presence: _Presence) -> None:
    """Keeps no message once it is sent: a variable here lives as long as the channel, 400 KB for every node."""
    await _open(socket, feed, channel)
    while not channel.closed:
        await _push_next(socket, context, feed, channel, presence)
    if channel.closed in CLOSE_CODES:
        await socket.close(CLOSE_CODES[channel.closed], channel.closed)


async def _open(socket: WebSocket, feed: Feed, channel: Channel) -> None:
    await feed.look_behind(channel)
    async for version, head, records in feed.opening(channel):
        await _send(socket, channel, version, head, records)


async def _push_next(socket: WebSocket, context: Context, feed: Feed, channel: Channel, presence: _Presence) -> None:
    try:
        async with asyncio.timeout(context.settings.heartbeat_seconds):
            message = await channel.queue.get()
    except TimeoutError:
        await _heartbeat(socket, context, feed, channel, presence.row_id)
    else:
        await _send(socket, channel, *message)
    await presence.renew()


async def _send(socket: WebSocket, channel: Channel, version: int, head: str | None, records: list[str]) -> None:
    """The node is told the version with the last of the records: until it has all of them, it stands where it stood."""
    if head is not None:
        await socket.send_text(f'{{"type":"head","head":{head}}}')
    if not records and version <= channel.sent:
        return
    last = max(0, len(records) - 1) // PIECE * PIECE
    for place in range(0, last + 1, PIECE):
        reached = max(version, channel.sent) if place == last else channel.sent
        text = ",".join(records[place : place + PIECE])
        await socket.send_text(f'{{"type":"records","from":{channel.sent},"version":{reached},"records":[{text}]}}')
    channel.sent = max(version, channel.sent)


async def _heartbeat(socket: WebSocket, context: Context, feed: Feed, channel: Channel, row_id: str) -> None:
    """Nothing has come for a while: so the node knows all up to the feed's version."""
    if not feed.knows(channel.node_id) and await _is_revoked(context, row_id):
        channel.closed = "node-revoked"
        return
    if channel.queue.empty():
        channel.sent = max(channel.sent, feed.version)
    await socket.send_text(f'{{"type":"heartbeat","version":{channel.sent},"time":{context.clock()}}}')


async def _read_until_closed(socket: WebSocket, channel: Channel) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
    channel.closed = channel.closed or "left"
    channel.put(channel.sent, None, [])


async def _is_revoked(context: Context, row_id: str) -> bool:
    async with read_session(context.engine) as session:
        row = await NodeRepository(session).by_id(row_id)
    return row is None or row.revoked_at is not None or row.expired_at is not None
