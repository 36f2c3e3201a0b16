# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.access import tokens
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.access.schemas import ApiTokenCreate, ApiTokenCreated, ApiTokenOut, ApiTokenPatch, WhoAmI
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
async def list_api_tokens(call: CallDep, page: PageDep) -> Page[ApiTokenOut]:
    call.check_everywhere()
    found = ApiTokenRepository(call.session)
    return await paginate(call, page, found, found.all(), lambda row: tokens.token_out(row, call.now))


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
