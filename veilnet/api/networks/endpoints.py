# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.networks import service
from veilnet.api.networks.repository import NetworkRepository
from veilnet.api.networks.schemas import (
    NetworkApproval,
    NetworkCreate,
    NetworkFilter,
    NetworkOut,
    NodeNetworks,
    NodeNetworksOut,
)
from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.realms.service import realm_filter
from veilnet.api.schemas import Page

routes = Routes("/advertised-networks", Resource.ADVERTISED_NETWORKS)
own_routes = Routes("/node", rule=NODE)


@routes.get("", "list_advertised_networks")
async def list_advertised_networks(
    call: CallDep, page: PageDep, filters: Annotated[NetworkFilter, Query()]
) -> Page[NetworkOut]:
    """Networks behind nodes: proposed, approved and rejected."""
    networks = NetworkRepository(call.session)
    realms = await realm_filter(call, filters.realm)
    present = await service.presenter(call.session, realms)
    return await paginate(call, page, networks, networks.filtered(realms, filters), present)


@routes.post("", "create_advertised_network")
async def create_advertised_network(body: NetworkCreate, call: CallDep) -> NetworkOut:
    """Approve a network of a node that has not proposed it."""
    return await service.create_network(call, body)


@routes.get("/{network_id}", "get_advertised_network")
async def get_advertised_network(network_id: str, call: CallDep) -> NetworkOut:
    row = await service.visible_network(call, network_id)
    call.show(row)
    return (await service.presenter(call.session, frozenset({row.realm_id})))(row)


@routes.delete("/{network_id}", "delete_advertised_network")
async def delete_advertised_network(network_id: str, call: CallDep) -> None:
    """Withdraw it at once. A node that still advertises it proposes it anew: reject it to have peace."""
    await service.delete_network(call, network_id)


@routes.post("/{network_id}:approve", "approve_advertised_network", status=200, verb=Verb.UPDATE)
async def approve_advertised_network(network_id: str, call: CallDep, body: NetworkApproval | None = None) -> NetworkOut:
    """Sign it into the node's certificate. Refused with 409 where it overlaps with another node's approved network,
    unless that is accepted."""
    return await service.approve_network(call, network_id, body)


@routes.post("/{network_id}:reject", "reject_advertised_network", status=200, verb=Verb.UPDATE)
async def reject_advertised_network(network_id: str, call: CallDep) -> NetworkOut:
    """Withdraw it, if it was approved, and do not be asked again."""
    return await service.reject_network(call, network_id)


@own_routes.put("/networks", "put_networks", conditional=False, rate="networks")
async def put_networks(body: NodeNetworks, call: CallDep) -> NodeNetworksOut:
    """What the node is a gateway for. An administrator approves it."""
    return await service.propose(call, body)
