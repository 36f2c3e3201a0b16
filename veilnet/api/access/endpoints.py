# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.access import tokens
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.access.schemas import ApiTokenCreate, ApiTokenCreated, ApiTokenOut, ApiTokenPatch, TokenKind, WhoAmI
from veilnet.api.platform.access import ANY_ADMINISTRATOR
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page

routes = Routes("/api-tokens", Resource.API_TOKENS)
own_routes = Routes("/whoami", rule=ANY_ADMINISTRATOR, tag="api-tokens")


@routes.post("", "create_api_token")
async def create_api_token(body: ApiTokenCreate, call: CallDep) -> ApiTokenCreated:
    return await tokens.create_token(call, body)


@routes.get("", "list_api_tokens")
async def list_api_tokens(
    call: CallDep,
    page: PageDep,
    owner_id: Annotated[str | None, Query(max_length=64)] = None,
    kind: TokenKind | None = None,
) -> Page[ApiTokenOut]:
    call.check_everywhere()
    found = ApiTokenRepository(call.session)
    return await paginate(call, page, found, found.chosen(owner_id, kind), lambda row: tokens.token_out(row, call.now))


@routes.get("/{token_id}", "get_api_token")
async def get_api_token(token_id: str, call: CallDep) -> ApiTokenOut:
    row = await tokens.get_token(call, token_id)
    call.show(row)
    return tokens.token_out(row, call.now)


@routes.patch("/{token_id}", "update_api_token")
async def update_api_token(token_id: str, body: ApiTokenPatch, call: CallDep) -> ApiTokenOut:
    return await tokens.rename_token(call, token_id, body)


@routes.delete("/{token_id}", "delete_api_token")
async def delete_api_token(token_id: str, call: CallDep) -> None:
    await tokens.delete_token(call, token_id)


@routes.post("/{token_id}/revoke", "revoke_api_token", status=200, verb=Verb.UPDATE)
async def revoke_api_token(token_id: str, call: CallDep) -> ApiTokenOut:
    return await tokens.revoke_token(call, token_id)


@own_routes.get("", "who_am_i")
async def who_am_i(call: CallDep) -> WhoAmI:
    """The caller, and each scope it has with the realms it has it in."""
    return tokens.who_am_i(call)


@own_routes.get("/tokens", "list_own_tokens")
async def list_own_tokens(call: CallDep, page: PageDep) -> Page[ApiTokenOut]:
    """Tokens of the caller: a person's sessions too; for a token without owner itself and what it asked for."""
    found = ApiTokenRepository(call.session)
    wanted = found.of(call.principal.id)
    return await paginate(call, page, found, wanted, lambda row: tokens.token_out(row, call.now))


@own_routes.post("/tokens/{token_id}/revoke", "revoke_own_token", status=200)
async def revoke_own_token(token_id: str, call: CallDep) -> ApiTokenOut:
    """Sign out with the calling token's own id, or end another one of the caller."""
    return await tokens.revoke_own_token(call, token_id)
