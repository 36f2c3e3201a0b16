# SPDX-License-Identifier: Apache-2.0
"""Many changes of nodes in one request and one transaction, each in a savepoint of its own."""

from __future__ import annotations

import asyncio
from typing import Final

from veilnet.api.db import part
from veilnet.api.errors import ApiError, problem_of
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import NodeBatch, NodeBatchOut, NodeChange, NodeChanged, NodeExpiry, NodeOut, NodePatch
from veilnet.api.nodes.service import Step, expiring, node_out, relabel
from veilnet.api.platform.call import Call
from veilnet.api.platform.preconditions import check_if_match
from veilnet.api.platform.roles import Verb
from veilnet.api.realms.repository import RealmRepository

_STEPS: Final[dict[str, Step]] = {
    "approve": lifecycle.approve,
    "revoke": lifecycle.revoke,
    "renew": lifecycle.renew,
    "drain": lifecycle.drain,
    "undrain": lifecycle.undrain,
    "delete": lifecycle.delete,
}


async def run(call: Call, body: NodeBatch, *, dry_run: bool) -> NodeBatchOut:
    await _lock(call, body)
    async with part(call.session, keep=not dry_run):
        items = []
        for change in body.items:
            items.append(await _one(call, change, dry_run=dry_run))
            await asyncio.sleep(0)  # whoever reads meanwhile waits for one item, not for all
    failed = sum(item.problem is not None for item in items)
    return NodeBatchOut(items=items, succeeded=len(items) - failed, failed=failed, dry_run=dry_run)


async def _lock(call: Call, body: NodeBatch) -> None:
    """All rows of it, before the first is changed, in the order that every other change keeps: realms, then nodes."""
    nodes = NodeRepository(call.session)
    rows = await nodes.of_ids({change.id for change in body.items}, call.realms)
    for realm_id in sorted({row.realm_id for row in rows}):
        await RealmRepository(call.session).locked(realm_id)
    await nodes.lock([row.id for row in rows])


async def _one(call: Call, change: NodeChange, *, dry_run: bool) -> NodeChanged:
    try:
        async with part(call.session):
            out = await _carried_out(call, change, dry_run=dry_run)
    except ApiError as error:
        return NodeChanged(id=change.id, action=change.action, status=error.status, problem=problem_of(error))
    status = 204 if out is None else 200
    return NodeChanged(id=change.id, action=change.action, status=status, node=out)


async def _carried_out(call: Call, change: NodeChange, *, dry_run: bool) -> NodeOut | None:
    """What the node is then; None if it is deleted."""
    verb = Verb.DELETE if change.action == "delete" else None
    row = await lifecycle.visible_node(call, change.id, verb)
    if change.if_match is not None:
        check_if_match(change.if_match, str(row.row_version))
    before = node_out(row, call.context.hub)
    await _apply(call, row, change)
    await call.session.flush()
    after = None if change.action == "delete" else node_out(row, call.context.hub)
    if not dry_run:
        call.audit_one_of_several(row.id, row.realm_id, before, after)
    return after


async def _apply(call: Call, row: Node, change: NodeChange) -> None:
    if change.action == "taints":
        await lifecycle.retaint(call.session, row, call.now, change.taints or ())
    elif change.action == "labels":
        relabel(call, row, NodePatch(labels=change.labels))
    elif change.action == "expire":
        await expiring(NodeExpiry(expires_at=change.expires_at))(call.session, row, call.now)
    else:
        await _STEPS[change.action](call.session, row, call.now)
