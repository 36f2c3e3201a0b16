# SPDX-License-Identifier: Apache-2.0
"""What becomes of a node: pending → active ⇄ expired → revoked → deleted; and a drained one, which takes nothing new.

Each step works on a locked row (`locked_node`), takes effect once and is refused where it makes no sense, so two that
meet end in one order or the other and never in a mixture. Callers audit. What nodes have to learn is marked here.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Conflict, NotFound
from veilnet.api.networks.repository import NetworkRepository
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.outbox.service import emit
from veilnet.api.platform.call import Call
from veilnet.api.platform.roles import Verb
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.topology.repository import EdgeRepository


async def visible_node(call: Call, row_id: str, verb: Verb | None = None) -> Node:
    """The node, if the caller may do there what this route does, or `verb`."""
    row = await NodeRepository(call.session).by_id(row_id)
    if row is None or row.deleted_at is not None:
        raise NotFound("node", row_id)
    call.check_realm(row.realm_id, "node", row_id, verb)
    return row


async def locked_node(call: Call, row_id: str, verb: Verb | None = None) -> Node:
    """`visible_node`, fresh and ours until the transaction ends. Realm first, then node: the order of an enrolment."""
    row = await visible_node(call, row_id, verb)
    await RealmRepository(call.session).locked(row.realm_id)
    if await NodeRepository(call.session).locked(row_id) is None or row.deleted_at is not None:
        raise NotFound("node", row_id)
    return row


async def approve(session: AsyncSession, row: Node, now: int) -> None:
    """From now on others learn of it."""
    _check_not_revoked(row)
    if row.approved_at is None:
        row.approved_at = now
        await _entered(session, row)
        _tell(session, row, "node.approved", now)


async def revoke(session: AsyncSession, row: Node, now: int) -> None:
    """Its credential stops working, its edges go, and nodes are told to forget it."""
    if row.revoked_at is not None:
        return
    row.revoked_at = now
    await _left(session, row)
    await EdgeRepository(session).remove_of(row.id)
    await NetworkRepository(session).remove_of(row.id)
    _tell(session, row, "node.revoked", now)


async def expire(session: AsyncSession, row: Node, now: int, at: int | None = None) -> None:
    """Its credential and its place in the directory end `at` that time, or now; name, addresses and edges stay."""
    _check_not_revoked(row)
    if at is not None and at > now:
        if row.expired_at is not None:
            raise Conflict("node-expired", f"node {row.name} has expired: renew it first")
        row.expires_at = at
        await _renewed(session, row)  # certificates that outlive it are replaced
        _tell(session, row, "node.expiry_set", now)
    elif row.expired_at is None:
        row.expired_at, row.expires_at = now, None
        await _left(session, row)
        _tell(session, row, "node.expired", now)


async def renew(session: AsyncSession, row: Node, now: int) -> None:
    """Let it back in, or on: no end but the usual ones, and a new certificate with the next contact."""
    _check_not_revoked(row)
    if row.expired_at is None and row.expires_at is None and row.certificate_not_after > now:
        return
    row.expired_at = row.expires_at = None
    row.certificate_not_after = now  # so it is due; and a node whose credential had lapsed has its grace again
    await _renewed(session, row)
    await _entered(session, row)
    _tell(session, row, "node.renewed", now)


async def drain(session: AsyncSession, row: Node, now: int) -> None:
    """No new circuit goes through it; those there are go on until they are idle."""
    _check_not_revoked(row)
    if "guardian" not in row.roles:
        raise Conflict("not-a-guardian", f"node {row.name} relays nothing that could be drained")
    if row.drained_at is None:
        row.drained_at = now
        await _changed(session, row)
        _tell(session, row, "node.drained", now)


async def undrain(session: AsyncSession, row: Node, now: int) -> None:
    _check_not_revoked(row)
    if row.drained_at is not None:
        row.drained_at = None
        await _changed(session, row)
        _tell(session, row, "node.undrained", now)


async def delete(session: AsyncSession, row: Node, now: int) -> None:
    """Revoked, and out of every list. Its tombstone stays in the directory as long as a certificate of it may count."""
    await revoke(session, row, now)
    row.deleted_at = now
    await session.flush()
    _tell(session, row, "node.deleted", now)


async def retaint(session: AsyncSession, row: Node, now: int, taints: Iterable[str]) -> None:
    """Signed into a new certificate at once."""
    row.taints = sorted(set(taints))
    await _changed(session, row)
    emit(session, "node.taints_changed", row.realm_id, row.id, {"taints": row.taints}, now)


async def renetwork(session: AsyncSession, row: Node, prefixes: Iterable[str]) -> None:
    """Signed into a new certificate at once."""
    row.networks = sorted(prefixes)
    await _changed(session, row)


# ---- what others have to learn ---------------------------------------------------------------------------------------


async def _changed(session: AsyncSession, row: Node) -> None:
    """The flush marks its record."""
    await session.flush()
    await RealmRepository(session).bump(row.realm_id)


async def _renewed(session: AsyncSession, row: Node) -> None:
    """Its own record is looked at again, also where only the certificate's end differs."""
    await DirectoryRepository(session).mark(row.realm_id, [row.id])
    await _changed(session, row)


async def _entered(session: AsyncSession, row: Node) -> None:
    """Records of its neighbours may have to list it from now on."""
    await _mark_neighbours(session, row)
    await _changed(session, row)


async def _left(session: AsyncSession, row: Node) -> None:
    """Records of its neighbours stop naming it. A Guardian's id every member has been told anyway, and its neighbours
    may be the whole fleet: theirs are cleaned as they are renewed."""
    if "guardian" not in row.roles:
        await _mark_neighbours(session, row)
    await _changed(session, row)


async def _mark_neighbours(session: AsyncSession, row: Node) -> None:
    await DirectoryRepository(session).mark(row.realm_id, await EdgeRepository(session).ends_of(row.id))


def _tell(session: AsyncSession, row: Node, kind: str, now: int) -> None:
    emit(session, kind, row.realm_id, row.id, {"name": row.name, "node_id": row.node_id}, now)


def _check_not_revoked(row: Node) -> None:
    if row.revoked_at is not None:
        raise Conflict("node-revoked", f"node {row.name} was revoked: it enrols again with a new identity")
