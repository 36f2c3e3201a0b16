# SPDX-License-Identifier: Apache-2.0
"""The resource `api-tokens`."""

from __future__ import annotations

from veilnet.api.access.grants import check_covers, checked_grants
from veilnet.api.access.models import ApiToken
from veilnet.api.access.owners import keep_an_owner
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.access.schemas import ApiTokenCreate, ApiTokenCreated, ApiTokenOut, ApiTokenPatch, WhoAmI
from veilnet.api.accounts.repository import ServiceAccountRepository, UserRepository
from veilnet.api.errors import Forbidden, Invalid, NotFound
from veilnet.api.ids import new_id
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.platform.roles import Resource, Verb, scope_name
from veilnet.api.secrets import bearer, new_secret, slow_hash


async def create_token(call: Call, body: ApiTokenCreate) -> ApiTokenCreated:
    call.check_everywhere()
    owner_id = body.owner_id or (call.principal.id if call.principal.kind in {"user", "service_account"} else None)
    await _check_owner(call, owner_id)
    known = {scope_name(resource, verb) for resource in Resource for verb in Verb}
    if unknown := sorted(set(body.scopes or ()) - known):
        raise Invalid("invalid", f"unknown scopes: {', '.join(unknown)}")
    row_id, secret = new_id("apt"), new_secret()
    row = ApiToken(
        id=row_id,
        name=body.name,
        hash=slow_hash(secret),
        kind="standing",
        owner_id=owner_id,
        created_by=call.principal.id,
        provider_groups=[],
        grants=await checked_grants(call, body.grants),
        scopes=None if body.scopes is None else sorted(set(body.scopes)),
        created_at=call.now,
        expires_at=call.now + body.expires_in,
        last_used_at=None,
        revoked_at=None,
    )
    await ApiTokenRepository(call.session).add(row)
    out = token_out(row, call.now)
    call.show(row)
    call.audit(row.id, None, after=out)
    call.emit("api_token.created", None, row.id, {"name": row.name})
    return ApiTokenCreated.model_validate({**out.model_dump(), "token": bearer("vnt", row_id, secret)})


async def _check_owner(call: Call, owner_id: str | None) -> None:
    if owner_id is None:
        return
    found = await UserRepository(call.session).by_id(owner_id) if owner_id.startswith("usr_") else None
    if found is None and await ServiceAccountRepository(call.session).by_id(owner_id) is None:
        raise NotFound("user or service account", owner_id)


async def get_token(call: Call, token_id: str) -> ApiToken:
    call.check_everywhere()
    row = await ApiTokenRepository(call.session).by_id(token_id)
    if row is None:
        raise NotFound("API token", token_id)
    return row


async def rename_token(call: Call, token_id: str, body: ApiTokenPatch) -> ApiTokenOut:
    row = await get_token(call, token_id)
    call.match(row)
    check_covers(call, row.grants)
    before = token_out(row, call.now)
    row.name = patched(ApiTokenPatch, ApiTokenPatch(name=row.name), body).name or row.name
    call.show(row)
    after = token_out(row, call.now)
    call.audit(row.id, None, before, after)
    return after


async def revoke_token(call: Call, token_id: str) -> ApiTokenOut:
    """From now on it opens nothing; revoking twice is the same as once."""
    row = await get_token(call, token_id)
    check_covers(call, row.grants, narrowed=False)
    return await _revoke(call, row)


async def revoke_own_token(call: Call, token_id: str) -> ApiTokenOut:
    """The caller's own. A token that was narrowed ends nothing but itself."""
    row = await ApiTokenRepository(call.session).by_id(token_id)
    if row is None or not _is_own(call, row):
        raise NotFound("API token of yours", token_id)
    if call.principal.scopes is not None and row.id != call.principal.token_id:
        raise Forbidden("forbidden", "this token is narrowed to some scopes: it may revoke itself, and no other")
    return await _revoke(call, row)


def _is_own(call: Call, row: ApiToken) -> bool:
    holder = call.principal.id
    return holder in {row.id, row.owner_id} or (row.owner_id is None and row.created_by == holder)


async def _revoke(call: Call, row: ApiToken) -> ApiTokenOut:
    before = token_out(row, call.now)
    row.revoked_at = row.revoked_at or call.now
    await keep_an_owner(call, row.grants)
    call.show(row)
    after = token_out(row, call.now)
    call.audit(row.id, None, before, after)
    call.emit("api_token.revoked", None, row.id, {"name": row.name})
    return after


async def delete_token(call: Call, token_id: str) -> None:
    row = await get_token(call, token_id)
    call.match(row)
    check_covers(call, row.grants, narrowed=False)
    call.audit(row.id, None, before=token_out(row, call.now))
    await ApiTokenRepository(call.session).remove(row)
    await keep_an_owner(call, row.grants)


def token_out(row: ApiToken, now: int) -> ApiTokenOut:
    state = "revoked" if row.revoked_at is not None else "expired" if row.expires_at <= now else "usable"
    own = {name: getattr(row, name) for name in ApiTokenOut.model_fields if name != "state"}
    return ApiTokenOut.model_validate({**own, "state": state})


def who_am_i(call: Call) -> WhoAmI:
    found: dict[str, list[str] | None] = {}
    for resource in Resource:
        for verb in Verb:
            realms = call.principal.realms(resource, verb)
            if realms is None or realms:
                found[scope_name(resource, verb)] = None if realms is None else sorted(realms)
    who = call.principal
    return WhoAmI(kind=who.kind, id=who.id, name=who.name, token_id=who.token_id, scopes=found)
