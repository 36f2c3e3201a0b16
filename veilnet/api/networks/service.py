# SPDX-License-Identifier: Apache-2.0
"""Networks behind nodes (docs/networks.md): proposed by a node or said by an administrator, approved, signed.

What is approved is copied to the node's row, from which the publisher makes the next certificate. Every change holds
the locks of the node's realm and of the node, so that two of them can't pass each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Conflict, Forbidden, Invalid, NotFound
from veilnet.api.ids import new_id
from veilnet.api.networks.models import AdvertisedNetwork
from veilnet.api.networks.repository import NetworkRepository
from veilnet.api.networks.schemas import (
    NetworkApproval,
    NetworkCreate,
    NetworkOut,
    NetworkState,
    NodeNetworks,
    NodeNetworksOut,
)
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.call import Call
from veilnet.api.platform.roles import RealmIds
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.protocol.documents import NETWORKS_MAX
from veilnet.protocol.networks import NEVER, IpNetwork, inside

# ---- administrators ------------------------------------------------------------------------------------------------


async def visible_network(call: Call, row_id: str) -> AdvertisedNetwork:
    row = await NetworkRepository(call.session).by_id(row_id)
    if row is None:
        raise NotFound("advertised network", row_id)
    call.check_realm(row.realm_id, "advertised network", row_id)
    return row


async def create_network(call: Call, body: NetworkCreate) -> NetworkOut:
    node = await lifecycle.locked_node(call, body.node_id)
    await _check_fits(call.session, node, [body.prefix])
    networks = NetworkRepository(call.session)
    if any(row.prefix == str(body.prefix) for row in await networks.of_node(node.id)):
        raise Conflict("network-known", f"{body.prefix} of {node.name} is known already: approve or delete that one")
    row = await networks.add(_new(call, node, body.prefix, proposed=False))
    await _decide(call, node, row, "approved", accept_conflicts=body.accept_conflicts)
    return await _answer(call, row, None)


async def approve_network(call: Call, row_id: str, body: NetworkApproval | None) -> NetworkOut:
    node, row = await _locked(call, row_id)
    before = await _out(call.session, row)
    accept = body is not None and body.accept_conflicts
    await _decide(call, node, row, "approved", accept_conflicts=accept)
    return await _answer(call, row, before)


async def reject_network(call: Call, row_id: str) -> NetworkOut:
    """It stays known, so that the node's next proposal does not ask again."""
    node, row = await _locked(call, row_id)
    before = await _out(call.session, row)
    await _decide(call, node, row, "rejected")
    return await _answer(call, row, before)


async def delete_network(call: Call, row_id: str) -> None:
    """A node that still advertises it proposes it anew."""
    node, row = await _locked(call, row_id)
    call.match(row)
    call.audit(row.id, row.realm_id, await _out(call.session, row))
    await _withdraw(call, node, [row])


async def presenter(session: AsyncSession, realms: RealmIds) -> Callable[[AdvertisedNetwork], NetworkOut]:
    """How to show rows of these realms: with what each conflicts with."""
    standing = [Span.of(row) for row in await NetworkRepository(session).standing(realms)]
    return lambda row: _shown(row, standing)


# ---- nodes ---------------------------------------------------------------------------------------------------------


async def propose(call: Call, body: NodeNetworks) -> NodeNetworksOut:
    """What a node says that it is a gateway for. Approved is only what was, or what an administrator approves."""
    await RealmRepository(call.session).locked(call.node.realm_id)
    node = await NodeRepository(call.session).locked(call.node.id)
    if node is None or node.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {call.node.id} was revoked")
    wanted = {str(prefix): prefix for prefix in body.prefixes}
    await _check_fits(call.session, node, wanted.values())
    networks = NetworkRepository(call.session)
    held = {row.prefix: row for row in await networks.of_node(node.id)}
    # a rejection outlives the proposal, or withdrawing and proposing anew would ask again
    gone = [row for row in held.values() if row.proposed and row.state != "rejected" and row.prefix not in wanted]
    await _withdraw(call, node, gone)
    for text, prefix in wanted.items():
        if text not in held:
            row = await networks.add(_new(call, node, prefix, proposed=True))
            _tell(call, row, "network.proposed")
    rows = await networks.of_node(node.id)
    return NodeNetworksOut.model_validate({"networks": {row.prefix: row.state for row in rows}})


# ---- inside --------------------------------------------------------------------------------------------------------


async def _locked(call: Call, row_id: str) -> tuple[Node, AdvertisedNetwork]:
    row = await visible_network(call, row_id)
    await RealmRepository(call.session).locked(row.realm_id)
    node = await NodeRepository(call.session).locked(row.node_id)
    fresh = await NetworkRepository(call.session).locked(row_id)
    if node is None or fresh is None:  # gone while we waited
        raise NotFound("advertised network", row_id)
    return node, fresh


async def _check_fits(session: AsyncSession, node: Node, prefixes: Iterable[IpNetwork]) -> None:
    if "conflux" not in node.roles:
        raise Conflict("not-a-conflux", f"node {node.name} carries no packets of a host: only a Conflux has networks")
    realm = await RealmRepository(session).by_id(node.realm_id)
    assert realm is not None
    for prefix in prefixes:
        _check_prefix(prefix, realm)


def _check_prefix(prefix: IpNetwork, realm: Realm) -> None:
    for other in (*NEVER, ip_network(realm.ipv4_range), ip_network(realm.ipv6_prefix)):
        if inside(prefix, other):
            raise Invalid("network-refused", f"{prefix} lies in {other}, which is never behind a node")


def _new(call: Call, node: Node, prefix: IpNetwork, *, proposed: bool) -> AdvertisedNetwork:
    return AdvertisedNetwork(
        id=new_id("net"),
        realm_id=node.realm_id,
        node_id=node.id,
        prefix=str(prefix),
        proposed=proposed,
        state="proposed",
        decided_at=None,
        created_at=call.now,
    )


async def _decide(
    call: Call, node: Node, row: AdvertisedNetwork, state: NetworkState, *, accept_conflicts: bool = False
) -> None:
    if row.state == state:
        return
    if state == "approved":
        await _check_approvable(call.session, node, row, accept_conflicts)
    row.state, row.decided_at = state, call.now
    await call.session.flush()
    await _sign(call, node)
    _tell(call, row, f"network.{state}")


async def _check_approvable(session: AsyncSession, node: Node, row: AdvertisedNetwork, accept_conflicts: bool) -> None:
    if node.revoked_at is not None:
        raise Conflict("node-revoked", f"node {node.name} was revoked")
    if len(node.networks) >= NETWORKS_MAX:
        raise Conflict("too-many-networks", f"node {node.name} has {NETWORKS_MAX} networks, the most of a certificate")
    standing = await NetworkRepository(session).standing(frozenset({row.realm_id}))
    conflicts = _conflicts(row, [Span.of(other) for other in standing if other.state == "approved"])
    if conflicts and not accept_conflicts:
        detail = f"{row.prefix} overlaps with {', '.join(conflicts)}; accept_conflicts approves it all the same"
        raise Conflict("network-conflict", detail)


async def _withdraw(call: Call, node: Node, rows: Iterable[AdvertisedNetwork]) -> None:
    rows = list(rows)
    for row in rows:
        await NetworkRepository(call.session).remove(row)
        _tell(call, row, "network.withdrawn")
    if any(row.state == "approved" for row in rows):
        await _sign(call, node)


async def _sign(call: Call, node: Node) -> None:
    rows = await NetworkRepository(call.session).of_node(node.id)
    await lifecycle.renetwork(call.session, node, [row.prefix for row in rows if row.state == "approved"])


async def _out(session: AsyncSession, row: AdvertisedNetwork) -> NetworkOut:
    return (await presenter(session, frozenset({row.realm_id})))(row)


async def _answer(call: Call, row: AdvertisedNetwork, before: NetworkOut | None) -> NetworkOut:
    call.show(row)
    after = await _out(call.session, row)
    call.audit(row.id, row.realm_id, before, after)
    return after


class Span(NamedTuple):
    """A network as what its overlaps are found by; addresses as integers."""

    id: str
    realm_id: str
    node_id: str
    version: int
    first: int
    last: int

    @classmethod
    def of(cls, row: AdvertisedNetwork) -> Span:
        prefix = ip_network(row.prefix)
        ends = int(prefix.network_address), int(prefix.broadcast_address)
        return cls(row.id, row.realm_id, row.node_id, prefix.version, *ends)

    def meets(self, other: Span) -> bool:
        """Whether they overlap and are two nodes' of one realm."""
        if self.version != other.version or self.last < other.first or other.last < self.first:
            return False
        return self.realm_id == other.realm_id and self.node_id != other.node_id


def _conflicts(row: AdvertisedNetwork, standing: Iterable[Span]) -> list[str]:
    own = Span.of(row)
    return [other.id for other in standing if own.meets(other)]


def _shown(row: AdvertisedNetwork, standing: Iterable[Span]) -> NetworkOut:
    own = {name: getattr(row, name) for name in NetworkOut.model_fields if name != "conflicts"}
    return NetworkOut.model_validate({**own, "conflicts": _conflicts(row, standing)})


def _tell(call: Call, row: AdvertisedNetwork, kind: str) -> None:
    call.emit(kind, row.realm_id, row.id, {"prefix": row.prefix, "node_id": row.node_id})
