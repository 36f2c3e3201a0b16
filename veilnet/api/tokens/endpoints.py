# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import APIRouter

from veilnet.api.deps import AdminOnly, ContextDep, PageDep, ReadSession, WriteSession
from veilnet.api.realms.service import get_realm
from veilnet.api.schemas import Page
from veilnet.api.tokens import service
from veilnet.api.tokens.repository import TokenRepository
from veilnet.api.tokens.schemas import TokenCreate, TokenCreated, TokenOut

router = APIRouter(prefix="/enrolment-tokens", tags=["enrolment tokens"], dependencies=[AdminOnly])


@router.post("", status_code=201, operation_id="create_enrolment_token")
async def create_enrolment_token(body: TokenCreate, session: WriteSession, context: ContextDep) -> TokenCreated:
    now = context.clock()
    row, text = await service.create_token(session, context.settings, body, now)
    return service.token_created(row, text, now)


@router.get("", operation_id="list_enrolment_tokens")
async def list_enrolment_tokens(
    session: ReadSession, context: ContextDep, page: PageDep, realm: str | None = None
) -> Page[TokenOut]:
    realm_id = None if realm is None else (await get_realm(session, realm)).id
    tokens = TokenRepository(session)
    rows, cursor = await tokens.page(tokens.of_realm(realm_id), page.limit, page.cursor)
    return Page(items=[service.token_out(row, context.clock()) for row in rows], next_cursor=cursor)


@router.post("/{token_id}/revoke", operation_id="revoke_enrolment_token")
async def revoke_enrolment_token(token_id: str, session: WriteSession, context: ContextDep) -> TokenOut:
    row = await service.revoke_token(session, token_id, context.clock())
    return service.token_out(row, context.clock())
