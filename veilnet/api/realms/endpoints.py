# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import APIRouter

from veilnet.api.deps import AdminOnly, ContextDep, PageDep, ReadSession, WriteSession
from veilnet.api.realms import service
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.schemas import RealmCreate, RealmOut, RealmSettings
from veilnet.api.schemas import Page

router = APIRouter(prefix="/realms", tags=["realms"], dependencies=[AdminOnly])


@router.post("", status_code=201, operation_id="create_realm")
async def create_realm(body: RealmCreate, session: WriteSession, context: ContextDep) -> RealmOut:
    return service.realm_out(await service.create_realm(session, context.cas, body, context.clock()))


@router.get("", operation_id="list_realms")
async def list_realms(session: ReadSession, page: PageDep) -> Page[RealmOut]:
    realms = RealmRepository(session)
    rows, cursor = await realms.page(realms.all(), page.limit, page.cursor)
    return Page(items=[service.realm_out(row) for row in rows], next_cursor=cursor)


@router.get("/{realm}", operation_id="get_realm")
async def get_realm(realm: str, session: ReadSession) -> RealmOut:
    return service.realm_out(await service.get_realm(session, realm))


@router.put("/{realm}/settings", operation_id="replace_realm_settings")
async def replace_realm_settings(realm: str, body: RealmSettings, session: WriteSession) -> RealmOut:
    return service.realm_out(await service.replace_settings(session, realm, body))
