# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.nodes import service
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import DescriptorOut, GuardianFilter, NodeFilter, NodeOut, NodePatch
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page, SignedDocument

routes = Routes("/nodes", Resource.NODES)
guardian_routes = Routes("/guardians", Resource.GUARDIANS)
own_routes = Routes("/node", rule=NODE)


@guardian_routes.get("", "list_guardians")
async def list_guardians(call: CallDep, page: PageDep, filters: Annotated[GuardianFilter, Query()]) -> Page[NodeOut]:
    """The nodes that relay for others: for whoever runs relays and administers nothing else."""
    nodes = NodeRepository(call.session)
    wanted = NodeFilter(**filters.model_dump(), role="guardian")
    query = nodes.filtered(await realm_filter(call, filters.realm), wanted)
    return await paginate(call, page, nodes, query, lambda row: service.node_out(row, call.context.hub))


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


@routes.patch("/{node_id}", "update_node")
async def update_node(node_id: str, body: NodePatch, call: CallDep) -> NodeOut:
    return await service.patch_node(call, node_id, body)


@routes.post("/{node_id}/approve", "approve_node", status=200, verb=Verb.UPDATE)
async def approve_node(node_id: str, call: CallDep) -> NodeOut:
    """Let a pending node in."""
    return await service.approve_node(call, node_id)


@routes.post("/{node_id}/revoke", "revoke_node", status=200, verb=Verb.UPDATE)
async def revoke_node(node_id: str, call: CallDep) -> NodeOut:
    return await service.revoke_node(call, node_id)


@own_routes.put("/descriptor", "put_descriptor", conditional=False)
async def put_descriptor(body: SignedDocument, call: CallDep) -> DescriptorOut:
    """The node's new descriptor: other endpoints, or the same before the old one ends."""
    return await service.accept_descriptor(call, body)
