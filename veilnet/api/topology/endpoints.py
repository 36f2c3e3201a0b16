# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import APIRouter

from veilnet.api.deps import AdminOnly, ContextDep, ReadSession, WriteSession
from veilnet.api.topology import service
from veilnet.api.topology.schemas import EdgeCreate, EdgeOut, TopologyOut, TopologyReplace

router = APIRouter(prefix="/realms/{realm}/edges", tags=["topology"], dependencies=[AdminOnly])


@router.get("", operation_id="get_topology")
async def get_topology(realm: str, session: ReadSession) -> TopologyOut:
    return await service.show(session, realm)


@router.post("", status_code=201, operation_id="create_edge")
async def create_edge(realm: str, body: EdgeCreate, session: WriteSession, context: ContextDep) -> EdgeOut:
    return await service.link(session, realm, body, context.clock())


@router.put("", operation_id="replace_topology")
async def replace_topology(
    realm: str, body: TopologyReplace, session: WriteSession, context: ContextDep
) -> TopologyOut:
    await service.replace(session, realm, body.edges, context.clock())
    return await service.show(session, realm)


@router.delete("/{edge_id}", status_code=204, operation_id="delete_edge")
async def delete_edge(realm: str, edge_id: str, session: WriteSession) -> None:
    await service.unlink(session, realm, edge_id)
