# SPDX-License-Identifier: Apache-2.0
"""Dependencies of the endpoints: context, session, page, and who is calling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from veilnet.api.access.models import AdminToken
from veilnet.api.access.service import admin_of, node_of
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.errors import Unauthorized
from veilnet.api.nodes.models import Node


def get_context(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context


ContextDep = Annotated[Context, Depends(get_context)]


async def get_read_session(context: ContextDep) -> AsyncIterator[AsyncSession]:
    async with read_session(context.engine) as session:
        yield session


async def get_write_session(context: ContextDep) -> AsyncIterator[AsyncSession]:
    async with write_session(context.engine, context.hub) as session:
        yield session


# scope="function": the commit happens before the answer is sent, so a failed commit is an error and not a 200
ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(get_write_session, scope="function")]


def bearer_text(connection: HTTPConnection) -> str:
    scheme, _, text = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Unauthorized("unauthorized", "send `Authorization: Bearer <credential>`")
    return text.strip()


BearerText = Annotated[str, Depends(bearer_text)]


async def require_admin(context: ContextDep, text: BearerText) -> AdminToken:
    async with read_session(context.engine) as session:
        return await admin_of(session, context.verified, text)


async def require_node(context: ContextDep, text: BearerText) -> Node:
    async with read_session(context.engine) as session:
        return await node_of(session, text)


AdminOnly = Depends(require_admin)
CallingNode = Annotated[Node, Depends(require_node)]


@dataclass(frozen=True)
class PageQuery:
    limit: Annotated[int, Query(ge=1, le=500)] = 100
    cursor: Annotated[str | None, Query(max_length=64)] = None


PageDep = Annotated[PageQuery, Depends()]
