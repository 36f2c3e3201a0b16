# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page
from veilnet.api.tokens import service
from veilnet.api.tokens.repository import TokenRepository
from veilnet.api.tokens.schemas import TokenCreate, TokenCreated, TokenOut

routes = Routes("/enrolment-tokens", Resource.ENROLMENT_TOKENS)


@routes.post("", "create_enrolment_token")
async def create_enrolment_token(body: TokenCreate, call: CallDep) -> TokenCreated:
    return await service.create_token(call, body)


@routes.get("", "list_enrolment_tokens")
async def list_enrolment_tokens(
    call: CallDep, page: PageDep, realm: Annotated[str | None, Query(max_length=64)] = None
) -> Page[TokenOut]:
    tokens = TokenRepository(call.session)
    query = tokens.of_realms(await realm_filter(call, realm))
    return await paginate(call, page, tokens, query, lambda row: service.token_out(row, call.now))


@routes.get("/{token_id}", "get_enrolment_token")
async def get_enrolment_token(token_id: str, call: CallDep) -> TokenOut:
    row = await service.visible_token(call, token_id)
    call.show(row)
    return service.token_out(row, call.now)


@routes.post("/{token_id}/revoke", "revoke_enrolment_token", status=200, verb=Verb.UPDATE)
async def revoke_enrolment_token(
    token_id: str, call: CallDep, cascade: Literal["disconnect"] | None = None
) -> TokenOut:
    """The token enrols nobody any more; `cascade=disconnect` revokes the nodes that it enrolled, too."""
    return await service.revoke_token(call, token_id, disconnect=cascade == "disconnect")
