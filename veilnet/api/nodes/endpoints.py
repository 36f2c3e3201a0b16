# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import Query

from veilnet.api.nodes import batch, lifecycle, service
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import (
    DescriptorOut,
    GuardianFilter,
    NodeBatch,
    NodeBatchOut,
    NodeExpiry,
    NodeFilter,
    NodeOut,
    NodePatch,
)
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.deprecation import Deprecation
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page, SignedDocument

routes = Routes("/nodes", Resource.NODES)
guardian_routes = Routes("/guardians", Resource.GUARDIANS)
own_routes = Routes("/node", rule=NODE)


def _by_slash(action: str) -> Deprecation:
    return Deprecation(date(2026, 11, 23), date(2027, 6, 1), f"/api/v1/nodes/{{node_id}}:{action}")


_APPROVE, _REVOKE = _by_slash("approve"), _by_slash("revoke")


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


@routes.post(":batch", "batch_nodes", status=200, verb=Verb.UPDATE)
async def batch_nodes(
    body: NodeBatch, call: CallDep, dry_run: Annotated[bool, Query(description="Tell what would happen")] = False
) -> NodeBatchOut:
    """Up to 500 changes, each by itself: one that is refused undoes no other, and the answer says what became of each.
    With `dry_run` the same answer, and nothing is changed."""
    return await batch.run(call, body, dry_run=dry_run)


@routes.get("/{node_id}", "get_node")
async def get_node(node_id: str, call: CallDep) -> NodeOut:
    row = await lifecycle.visible_node(call, node_id)
    call.show(row)
    return service.node_out(row, call.context.hub)


@routes.patch("/{node_id}", "update_node")
async def update_node(node_id: str, body: NodePatch, call: CallDep) -> NodeOut:
    return await service.patch_node(call, node_id, body)


@routes.delete("/{node_id}", "delete_node")
async def delete_node(node_id: str, call: CallDep) -> None:
    """Revoke it, if it is not, and take it out of every list. The audit keeps what it was."""
    await service.delete_node(call, node_id)


@routes.post("/{node_id}:approve", "approve_node", status=200, verb=Verb.UPDATE)
async def approve_node(node_id: str, call: CallDep) -> NodeOut:
    """Let a pending node in."""
    return await service.act(call, node_id, lifecycle.approve)


@routes.post("/{node_id}:revoke", "revoke_node", status=200, verb=Verb.UPDATE)
async def revoke_node(node_id: str, call: CallDep) -> NodeOut:
    """Cut it off for good: its identity does not come back, its name and addresses are free."""
    return await service.act(call, node_id, lifecycle.revoke)


@routes.post("/{node_id}:expire", "expire_node", status=200, verb=Verb.UPDATE)
async def expire_node(node_id: str, call: CallDep, body: NodeExpiry | None = None) -> NodeOut:
    """Its credential and certificate end, now or at `expires_at`, until it is renewed or enrols again. It keeps its
    name, addresses and edges."""
    return await service.expire_node(call, node_id, body)


@routes.post("/{node_id}:renew", "renew_node", status=200, verb=Verb.UPDATE)
async def renew_node(node_id: str, call: CallDep) -> NodeOut:
    """Let an expired node, or one whose credential has lapsed, back in as it was; also takes `expires_at` away."""
    return await service.act(call, node_id, lifecycle.renew)


@routes.post("/{node_id}:drain", "drain_node", status=200, verb=Verb.UPDATE)
async def drain_node(node_id: str, call: CallDep) -> NodeOut:
    """A Guardian takes no new circuits; those that it has go on until they are idle."""
    return await service.act(call, node_id, lifecycle.drain)


@routes.post("/{node_id}:undrain", "undrain_node", status=200, verb=Verb.UPDATE)
async def undrain_node(node_id: str, call: CallDep) -> NodeOut:
    return await service.act(call, node_id, lifecycle.undrain)


@routes.post("/{node_id}/approve", "approve_node_by_slash", status=200, verb=Verb.UPDATE, deprecated=_APPROVE)
async def approve_node_by_slash(node_id: str, call: CallDep) -> NodeOut:
    """Use `:approve`."""
    return await service.act(call, node_id, lifecycle.approve)


@routes.post("/{node_id}/revoke", "revoke_node_by_slash", status=200, verb=Verb.UPDATE, deprecated=_REVOKE)
async def revoke_node_by_slash(node_id: str, call: CallDep) -> NodeOut:
    """Use `:revoke`."""
    return await service.act(call, node_id, lifecycle.revoke)


@guardian_routes.post("/{node_id}:drain", "drain_guardian", status=200, verb=Verb.UPDATE)
async def drain_guardian(node_id: str, call: CallDep) -> NodeOut:
    """As `drain_node`, for whoever runs relays and administers nothing else."""
    return await service.drain_guardian(call, node_id, lifecycle.drain)


@guardian_routes.post("/{node_id}:undrain", "undrain_guardian", status=200, verb=Verb.UPDATE)
async def undrain_guardian(node_id: str, call: CallDep) -> NodeOut:
    return await service.drain_guardian(call, node_id, lifecycle.undrain)


@own_routes.put("/descriptor", "put_descriptor", conditional=False, grouped=True)
async def put_descriptor(body: SignedDocument, call: CallDep) -> DescriptorOut:
    """The node's new descriptor: other endpoints, or the same before the old one ends."""
    return await service.accept_descriptor(call, body)
