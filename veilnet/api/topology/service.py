# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Invalid, NotFound
from veilnet.api.ids import new_id
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import get_realm
from veilnet.api.topology.models import Edge
from veilnet.api.topology.repository import EdgeRepository
from veilnet.api.topology.schemas import EdgeCreate, EdgeNode, EdgeOut, TopologyOut


async def show(session: AsyncSession, realm_ref: str) -> TopologyOut:
    realm = await get_realm(session, realm_ref)
    names = {node.id: node.name for node in await NodeRepository(session).alive(realm.id)}
    edges = [edge_out(edge, names) for edge in await EdgeRepository(session).of_realm(realm.id)]
    return TopologyOut(edges=sorted(edges, key=lambda edge: (edge.a.name, edge.b.name)))


async def link(session: AsyncSession, realm_ref: str, body: EdgeCreate, now: int) -> EdgeOut:
    """The edge between two nodes; making it twice is the same as once."""
    realm = await get_realm(session, realm_ref)
    ends = await _ends(session, realm, body)
    edges = EdgeRepository(session)
    edge = await edges.between(ends[0].id, ends[1].id)
    if edge is None:
        edge = await edges.add(_edge(realm.id, ends, now))
        await RealmRepository(session).bump(realm.id)
    return edge_out(edge, {node.id: node.name for node in ends})


async def replace(session: AsyncSession, realm_ref: str, wanted: list[EdgeCreate], now: int) -> None:
    """Make the realm's edges exactly these; one change of the snapshot, none if nothing differs."""
    realm = await get_realm(session, realm_ref)
    edges = EdgeRepository(session)
    known = {(edge.a_id, edge.b_id): edge for edge in await edges.of_realm(realm.id)}
    pairs = {(ends[0].id, ends[1].id): ends for ends in [await _ends(session, realm, body) for body in wanted]}
    if pairs.keys() == known.keys():
        return
    await edges.remove([edge for pair, edge in known.items() if pair not in pairs])
    for pair in pairs.keys() - known.keys():
        await edges.add(_edge(realm.id, pairs[pair], now))
    await RealmRepository(session).bump(realm.id)


async def unlink(session: AsyncSession, realm_ref: str, edge_id: str) -> None:
    realm = await get_realm(session, realm_ref)
    edge = await EdgeRepository(session).by_id(edge_id)
    if edge is None or edge.realm_id != realm.id:
        raise NotFound("edge", edge_id)
    await EdgeRepository(session).remove([edge])
    await RealmRepository(session).bump(realm.id)


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
