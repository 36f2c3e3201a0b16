# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.nodes import service
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import DescriptorOut, NodeFilter, NodeOut
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page, SignedDocument

routes = Routes("/nodes", Resource.NODES)
own_routes = Routes("/node", rule=NODE)


@routes.get("", "list_nodes")
async def list_nodes(call: CallDep, page: PageDep, filters: Annotated[NodeFilter, Query()]) -> Page[NodeOut]:
    nodes = NodeRepository(call.session)
    query = nodes.filtered(await realm_filter(call, filters.realm), filters)
    return await paginate(call, page, nodes, query, lambda row: service.node_out(row, call.context.hub))


@routes.get("/{node_id}", "get_node")
async def get_node(node_id: str, call: CallDep) -> NodeOut:
    row = await service.visible_node(call, node_id)
    call.show(row)
    return service.node_out(row, call.context.hub)


@routes.post("/{node_id}/revoke", "revoke_node", status=200, verb=Verb.UPDATE)
async def revoke_node(node_id: str, call: CallDep) -> NodeOut:
    return await service.revoke_node(call, node_id)


@own_routes.put("/descriptor", "put_descriptor", conditional=False)
async def put_descriptor(body: SignedDocument, call: CallDep) -> DescriptorOut:
    """The node's new descriptor: other endpoints, or the same before the old one ends."""
    row = await service.accept_descriptor(call.session, call.node.id, body, call.now)
    return DescriptorOut.model_validate({"serial": row.descriptor_serial, "expires_at": row.descriptor_expires})
