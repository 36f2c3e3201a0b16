# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource
from veilnet.api.platform.routing import Routes
from veilnet.api.realms import deletion, service
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.schemas import RealmCreate, RealmDns, RealmOut, RealmPatch, RealmSettings
from veilnet.api.schemas import Page

routes = Routes("/realms", Resource.REALMS)


@routes.post("", "create_realm")
async def create_realm(body: RealmCreate, call: CallDep) -> RealmOut:
    return service.realm_out(await service.create_realm(call, body))


@routes.get("", "list_realms")
async def list_realms(call: CallDep, page: PageDep) -> Page[RealmOut]:
    realms = RealmRepository(call.session)
    return await paginate(call, page, realms, realms.visible(call.realms), service.realm_out)


@routes.get("/{realm}", "get_realm")
async def get_realm(realm: str, call: CallDep) -> RealmOut:
    row = await service.visible_realm(call, realm)
    call.show(row)
    return service.realm_out(row)


@routes.patch("/{realm}", "update_realm")
async def update_realm(realm: str, body: RealmPatch, call: CallDep) -> RealmOut:
    return await service.patch_realm(call, realm, body)


@routes.delete("/{realm}", "delete_realm")
async def delete_realm(realm: str, call: CallDep) -> None:
    """For good, with its CA keys, once no node is a member any more."""
    await deletion.delete_realm(call, realm)


@routes.get("/{realm}/settings", "get_realm_settings")
async def get_realm_settings(realm: str, call: CallDep) -> RealmSettings:
    row = await service.visible_realm(call, realm)
    call.show(row)
    return service.settings_of(row)


@routes.put("/{realm}/settings", "replace_realm_settings")
async def replace_realm_settings(realm: str, body: RealmSettings, call: CallDep) -> RealmSettings:
    return await service.replace_settings(call, realm, body)


@routes.get("/{realm}/dns", "get_realm_dns")
async def get_realm_dns(realm: str, call: CallDep) -> RealmDns:
    row = await service.visible_realm(call, realm)
    call.show(row)
    return service.dns_of(row)


@routes.put("/{realm}/dns", "replace_realm_dns")
async def replace_realm_dns(realm: str, body: RealmDns, call: CallDep) -> RealmDns:
    return await service.replace_dns(call, realm, body)
