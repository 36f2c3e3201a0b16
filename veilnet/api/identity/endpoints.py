# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.identity import service, sessions
from veilnet.api.identity.repository import IdentityProviderRepository
from veilnet.api.identity.schemas import (
    IdentityProviderCreate,
    IdentityProviderOut,
    IdentityProviderPatch,
    LoginOptions,
    SessionCreate,
    SessionCreated,
)
from veilnet.api.platform.access import ANYBODY
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page

routes = Routes("/identity-providers", Resource.IDENTITY_PROVIDERS)
login_routes = Routes("/login", rule=ANYBODY, tag="identity-providers")


@routes.post("", "create_identity_provider")
async def create_identity_provider(body: IdentityProviderCreate, call: CallDep) -> IdentityProviderOut:
    return await service.create_provider(call, body)


@routes.get("", "list_identity_providers")
async def list_identity_providers(call: CallDep, page: PageDep) -> Page[IdentityProviderOut]:
    call.check_everywhere()
    found = IdentityProviderRepository(call.session)
    return await paginate(call, page, found, found.all(), service.provider_out)


@routes.get("/{provider_id}", "get_identity_provider")
async def get_identity_provider(provider_id: str, call: CallDep) -> IdentityProviderOut:
    row = await service.get_provider(call, provider_id)
    call.show(row)
    return service.provider_out(row)


@routes.patch("/{provider_id}", "update_identity_provider")
async def update_identity_provider(provider_id: str, body: IdentityProviderPatch, call: CallDep) -> IdentityProviderOut:
    return await service.patch_provider(call, provider_id, body)


@routes.delete("/{provider_id}", "delete_identity_provider")
async def delete_identity_provider(provider_id: str, call: CallDep) -> None:
    await service.delete_provider(call, provider_id)


@login_routes.get("", "get_login_options")
async def get_login_options(call: CallDep) -> LoginOptions:
    """The identity providers in use: what `veilnet login` needs to begin, for whoever asks."""
    return await service.login_options(call)


@login_routes.post("/sessions", "create_session", before=sessions.prepare)
async def create_session(body: SessionCreate, call: CallDep) -> SessionCreated:
    """Change what a configured provider says about a person for a token of this person, with an end."""
    assert isinstance(call.prepared, sessions.Proven)
    return await sessions.create_session(call, call.prepared)
