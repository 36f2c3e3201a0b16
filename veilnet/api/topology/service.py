# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Invalid, NotFound
from veilnet.api.ids import new_id
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.call import Call
from veilnet.api.platform.paging import PageQuery, paginate
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import visible_realm
from veilnet.api.schemas import Page
from veilnet.api.topology.models import Edge
from veilnet.api.topology.repository import EdgeRepository
from veilnet.api.topology.schemas import EdgeCreate, EdgeNode, EdgeOut, TopologyChange


async def list_edges(call: Call, realm_ref: str, page: PageQuery) -> Page[EdgeOut]:
    realm = await visible_realm(call, realm_ref)
    edges = EdgeRepository(call.session)
    names = await _names(call.session, realm.id)
    call.show(topology_version(await edges.of_realm(realm.id)))
    return await paginate(call, page, edges, edges.in_realm(realm.id), lambda edge: edge_out(edge, names))


async def get_edge(call: Call, realm_ref: str, edge_id: str) -> tuple[Realm, Edge]:
    realm = await visible_realm(call, realm_ref)
    edge = await EdgeRepository(call.session).by_id(edge_id)
    if edge is None or edge.realm_id != realm.id:
        raise NotFound("edge", edge_id)
    return realm, edge


async def show(call: Call, realm_ref: str, edge_id: str) -> EdgeOut:
    realm, edge = await get_edge(call, realm_ref, edge_id)
    call.show(edge)
    return edge_out(edge, await _names(call.session, realm.id))


async def link(call: Call, realm_ref: str, body: EdgeCreate) -> EdgeOut:
    """The edge between two nodes; making it twice is the same as once."""
    realm = await _locked_realm(call, realm_ref)
    ends = await _ends(call.session, realm, body)
    edges = EdgeRepository(call.session)
    edge = await edges.between(ends[0].id, ends[1].id)
    known = edge is not None
    edge = edge or await edges.add(_edge(realm.id, ends, call.now))
    out = edge_out(edge, {node.id: node.name for node in ends})
    if not known:
        await RealmRepository(call.session).bump(realm.id)
        call.audit(edge.id, realm.id, after=out)
        call.emit("topology.changed", realm.id, realm.id, {"added": 1, "removed": 0})
    call.show(edge)
    return out


async def replace(call: Call, realm_ref: str, wanted: list[EdgeCreate]) -> TopologyChange:
    """Make the realm's edges exactly these; one change of the snapshot, none if nothing differs."""
    realm = await _locked_realm(call, realm_ref)
    edges = EdgeRepository(call.session)
    before = await edges.of_realm(realm.id)
    call.match(topology_version(before))
    known = {(edge.a_id, edge.b_id): edge for edge in before}
    pairs = {(ends[0].id, ends[1].id): ends for ends in [await _ends(call.session, realm, body) for body in wanted]}
    gone, new = known.keys() - pairs.keys(), pairs.keys() - known.keys()
    change = TopologyChange(added=len(new), removed=len(gone))
    if gone or new:
        await edges.remove_all([known[pair] for pair in gone])
        for pair in sorted(new):
            await edges.add(_edge(realm.id, pairs[pair], call.now))
        await RealmRepository(call.session).bump(realm.id)
        call.emit("topology.changed", realm.id, realm.id, change.model_dump())
    call.audit(realm.id, realm.id, after=change)
    call.show(topology_version(await edges.of_realm(realm.id)))
    return change


async def unlink(call: Call, realm_ref: str, edge_id: str) -> None:
    realm, edge = await get_edge(call, realm_ref, edge_id)
    call.match(edge)
    call.audit(edge.id, realm.id, before=edge_out(edge, await _names(call.session, realm.id)))
    await EdgeRepository(call.session).remove(edge)
    await RealmRepository(call.session).bump(realm.id)
    call.emit("topology.changed", realm.id, realm.id, {"added": 0, "removed": 1})


def topology_version(edges: list[Edge]) -> str:
    """Edges are never changed, so their ids say everything."""
    return hashlib.sha256("".join(sorted(edge.id for edge in edges)).encode()).hexdigest()[:16]


async def _locked_realm(call: Call, realm_ref: str) -> Realm:
    realm = await visible_realm(call, realm_ref)
    return await RealmRepository(call.session).locked(realm.id) or realm


async def _names(session: AsyncSession, realm_id: str) -> dict[str, str]:
    return {node.id: node.name for node in await NodeRepository(session).alive(realm_id)}


async def _ends(session: AsyncSession, realm: Realm, body: EdgeCreate) -> tuple[Node, Node]:
    """Both nodes, the one with the smaller row id first."""
    nodes = NodeRepository(session)
    found = []
    for name in (body.a, body.b):
        node = await nodes.named(realm.id, name)
        if node is None:
            raise NotFound(f"active node in realm {realm.name}", name)
        found.append(node)
    one, other = sorted(found, key=lambda node: node.id)
    if one is other:
        raise Invalid("invalid", f"an edge joins two nodes, {body.a!r} and {body.b!r} are one")
    return one, other


def _edge(realm_id: str, ends: tuple[Node, Node], now: int) -> Edge:
    return Edge(id=new_id("edg"), realm_id=realm_id, a_id=ends[0].id, b_id=ends[1].id, created_at=now)


def edge_out(edge: Edge, names: dict[str, str]) -> EdgeOut:
    a, b = (EdgeNode(id=row_id, name=names[row_id]) for row_id in sorted((edge.a_id, edge.b_id), key=names.__getitem__))
    return EdgeOut.model_validate({"id": edge.id, "a": a, "b": b, "created_at": edge.created_at})
