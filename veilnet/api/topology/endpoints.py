# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep
from veilnet.api.platform.roles import Resource
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page
from veilnet.api.topology import service
from veilnet.api.topology.schemas import EdgeCreate, EdgeOut, TopologyChange, TopologyReplace

routes = Routes("/realms/{realm}/edges", Resource.TOPOLOGY, tag="topology")


@routes.get("", "list_edges")
async def list_edges(realm: str, call: CallDep, page: PageDep) -> Page[EdgeOut]:
    """The ETag is of the whole topology, not of the page."""
    return await service.list_edges(call, realm, page)


@routes.post("", "create_edge")
async def create_edge(realm: str, body: EdgeCreate, call: CallDep) -> EdgeOut:
    return await service.link(call, realm, body)


@routes.put("", "replace_topology")
async def replace_topology(realm: str, body: TopologyReplace, call: CallDep) -> TopologyChange:
    return await service.replace(call, realm, body.edges)


@routes.get("/{edge_id}", "get_edge")
async def get_edge(realm: str, edge_id: str, call: CallDep) -> EdgeOut:
    return await service.show(call, realm, edge_id)


@routes.delete("/{edge_id}", "delete_edge")
async def delete_edge(realm: str, edge_id: str, call: CallDep) -> None:
    await service.unlink(call, realm, edge_id)
