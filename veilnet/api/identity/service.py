# SPDX-License-Identifier: Apache-2.0
"""The resource `identity-providers`: whose ID tokens count."""

from __future__ import annotations

from typing import Any, Final

from veilnet.api.access.grants import check_covers, checked_grants
from veilnet.api.access.owners import OWNER_GRANT, keep_an_owner
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.errors import Conflict, Invalid, NotFound
from veilnet.api.identity.models import IdentityProvider
from veilnet.api.identity.repository import IdentityProviderRepository
from veilnet.api.identity.schemas import (
    GroupGrants,
    IdentityProviderCreate,
    IdentityProviderOut,
    IdentityProviderPatch,
    LoginOptions,
    LoginProvider,
)
from veilnet.api.ids import new_id
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.schemas import FieldError
from veilnet.oidc.errors import ProviderError
from veilnet.oidc.metadata import checked_issuer

PROVIDERS_MAX: Final = 50
PURPOSE: Final = b"veilnet/identity-provider/1"


async def create_provider(call: Call, body: IdentityProviderCreate) -> IdentityProviderOut:
    call.check_everywhere()
    providers = IdentityProviderRepository(call.session)
    if len(await providers.every()) >= PROVIDERS_MAX:
        raise Conflict("conflict", f"there are {PROVIDERS_MAX} identity providers: delete one first")
    try:
        checked_issuer(body.issuer)
    except ProviderError as error:
        raise Invalid("invalid", str(error), [FieldError(pointer="/issuer", detail=str(error))]) from None
    if await providers.by_issuer(body.issuer) is not None:
        raise Conflict("name-taken", f"the issuer {body.issuer} is configured already")
    await _check_name(call, body.name, None)
    row = IdentityProvider(id=new_id("idp"), issuer=body.issuer, created_at=call.now, client_secret=None)
    await _configure(call, row, body, [])
    if body.client_secret is not None:
        row.client_secret = _sealed(call, body.client_secret)
    await providers.add(row)
    call.show(row)
    call.audit(row.id, None, after=provider_out(row))
    call.emit("identity_provider.created", None, row.id, {"name": row.name})
    return provider_out(row)


async def get_provider(call: Call, provider_id: str) -> IdentityProvider:
    call.check_everywhere()
    row = await IdentityProviderRepository(call.session).by_id(provider_id)
    if row is None:
        raise NotFound("identity provider", provider_id)
    return row


async def patch_provider(call: Call, provider_id: str, patch: IdentityProviderPatch) -> IdentityProviderOut:
    row = await get_provider(call, provider_id)
    call.match(row)
    check_covers(call, _mapped(row))
    before = provider_out(row)
    fields = before.model_dump(mode="json", include=set(IdentityProviderCreate.model_fields) - {"client_secret"})
    body = patched(IdentityProviderCreate, IdentityProviderCreate.model_validate(fields), patch)
    await _check_name(call, body.name, row.id)
    await _configure(call, row, body, _mapped(row))
    if "client_secret" in patch.model_fields_set:
        row.client_secret = None if patch.client_secret is None else _sealed(call, patch.client_secret)
    if row.disabled_at is not None:
        await ApiTokenRepository(call.session).revoke_of_provider(row.id, call.now)
    await keep_an_owner(call, [OWNER_GRANT])
    call.show(row)
    call.audit(row.id, None, before, provider_out(row))
    call.emit("identity_provider.changed", None, row.id, {"name": row.name})
    return provider_out(row)


async def delete_provider(call: Call, provider_id: str) -> None:
    """Its sessions end; its users stay, and can't sign in."""
    row = await get_provider(call, provider_id)
    call.match(row)
    check_covers(call, _mapped(row), narrowed=False)
    call.audit(row.id, None, before=provider_out(row))
    call.emit("identity_provider.deleted", None, row.id, {"name": row.name})
    await ApiTokenRepository(call.session).revoke_of_provider(row.id, call.now)
    await IdentityProviderRepository(call.session).remove(row)
    await keep_an_owner(call, [OWNER_GRANT])


async def login_options(call: Call) -> LoginOptions:
    """For strangers: the providers in use, and nothing of what their people may do."""
    rows = await IdentityProviderRepository(call.session).in_use()
    found = [
        LoginProvider(
            id=row.id,
            name=row.name,
            issuer=row.issuer,
            client_id=row.client_id,
            confidential=row.client_secret is not None,
        )
        for row in rows
    ]
    return LoginOptions(providers=found)


async def _configure(call: Call, row: IdentityProvider, body: IdentityProviderCreate, known: list[Any]) -> None:
    row.name, row.client_id, row.groups_claim = body.name, body.client_id, body.groups_claim
    row.creates_users, row.session_seconds = body.creates_users, body.session_seconds
    row.disabled_at = (row.disabled_at or call.now) if body.state == "disabled" else None
    row.group_grants = [await _group(call, item, known) for item in body.group_grants]


async def _group(call: Call, item: GroupGrants, known: list[Any]) -> dict[str, Any]:
    new = [grant for grant in item.grants if grant.model_dump(mode="json") not in known]
    await checked_grants(call, new)
    return item.model_dump(mode="json")


async def _check_name(call: Call, name: str, own_id: str | None) -> None:
    found = await IdentityProviderRepository(call.session).named(name)
    if found is not None and found.id != own_id:
        raise Conflict("name-taken", f"an identity provider {name} exists")


def _mapped(row: IdentityProvider) -> list[Any]:
    return [grant for item in row.group_grants for grant in item["grants"]]


def _sealed(call: Call, text: str) -> bytes:
    return call.context.sealer.seal(text.encode(), PURPOSE)


def provider_out(row: IdentityProvider) -> IdentityProviderOut:
    derived = {"state", "confidential"}
    own = {name: getattr(row, name) for name in IdentityProviderOut.model_fields if name not in derived}
    state = "enabled" if row.disabled_at is None else "disabled"
    return IdentityProviderOut.model_validate({**own, "state": state, "confidential": row.client_secret is not None})
