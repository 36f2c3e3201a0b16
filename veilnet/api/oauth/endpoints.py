# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.accounts.service import SERVICE_ACCOUNTS
from veilnet.api.oauth import service
from veilnet.api.oauth.repository import SecretRepository
from veilnet.api.oauth.schemas import SecretCreate, SecretCreated, SecretOut
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page

routes = Routes("/service-accounts/{service_account_id}/secrets", Resource.SERVICE_ACCOUNTS, tag="service-accounts")


@routes.post("", "create_service_account_secret", verb=Verb.UPDATE)
async def create_service_account_secret(service_account_id: str, body: SecretCreate, call: CallDep) -> SecretCreated:
    """A new client secret; `overlap_seconds` ends the earlier ones after that time."""
    return await service.create_secret(call, service_account_id, body)


@routes.get("", "list_service_account_secrets")
async def list_service_account_secrets(service_account_id: str, call: CallDep, page: PageDep) -> Page[SecretOut]:
    await SERVICE_ACCOUNTS.get(call, service_account_id)
    found = SecretRepository(call.session)
    query = found.of(service_account_id)
    return await paginate(call, page, found, query, lambda row: service.secret_out(row, call.now))


@routes.get("/{secret_id}", "get_service_account_secret")
async def get_service_account_secret(service_account_id: str, secret_id: str, call: CallDep) -> SecretOut:
    row = await service.get_secret(call, service_account_id, secret_id)
    call.show(row)
    return service.secret_out(row, call.now)


@routes.delete("/{secret_id}", "delete_service_account_secret", verb=Verb.UPDATE)
async def delete_service_account_secret(service_account_id: str, secret_id: str, call: CallDep) -> None:
    await service.delete_secret(call, service_account_id, secret_id)
