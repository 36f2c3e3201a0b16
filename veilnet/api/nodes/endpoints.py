# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import APIRouter

from veilnet.api.deps import AdminOnly, CallingNode, ContextDep, PageDep, ReadSession, WriteSession
from veilnet.api.nodes import service
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import DescriptorOut, NodeOut
from veilnet.api.realms.service import get_realm
from veilnet.api.schemas import Page, SignedDocument

router = APIRouter(prefix="/nodes", tags=["nodes"], dependencies=[AdminOnly])
own_router = APIRouter(prefix="/node", tags=["node"])


@router.get("", operation_id="list_nodes")
async def list_nodes(
    session: ReadSession, context: ContextDep, page: PageDep, realm: str | None = None
) -> Page[NodeOut]:
    realm_id = None if realm is None else (await get_realm(session, realm)).id
    nodes = NodeRepository(session)
    rows, cursor = await nodes.page(nodes.of_realm(realm_id), page.limit, page.cursor)
    return Page(items=[service.node_out(row, context.hub) for row in rows], next_cursor=cursor)


@router.get("/{node_id}", operation_id="get_node")
async def get_node(node_id: str, session: ReadSession, context: ContextDep) -> NodeOut:
    return service.node_out(await service.get_node(session, node_id), context.hub)


@router.post("/{node_id}/revoke", operation_id="revoke_node")
async def revoke_node(node_id: str, session: WriteSession, context: ContextDep) -> NodeOut:
    return service.node_out(await service.revoke_node(session, node_id, context.clock()), context.hub)


@own_router.put("/descriptor", operation_id="put_descriptor")
async def put_descriptor(
    body: SignedDocument, node: CallingNode, session: WriteSession, context: ContextDep
) -> DescriptorOut:
    """The node's new descriptor: other endpoints, or the same before the old one ends."""
    row = await service.accept_descriptor(session, node.id, body, context.clock())
    return DescriptorOut.model_validate({"serial": row.descriptor_serial, "expires_at": row.descriptor_expires})
