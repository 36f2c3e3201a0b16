# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.db import note_change
from veilnet.api.errors import Conflict, Forbidden, Invalid, NotFound
from veilnet.api.hub import Hub
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import DescriptorOut, NodeConfig, NodeOut, NodePatch, NodeState
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.schemas import SignedDocument
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.topology.repository import EdgeRepository
from veilnet.protocol.directory import Descriptor, DirectoryError, verify_descriptor

DESCRIPTOR_SECONDS_MAX: Final = 31 * 86400


async def get_node(session: AsyncSession, row_id: str) -> Node:
    row = await NodeRepository(session).by_id(row_id)
    if row is None:
        raise NotFound("node", row_id)
    return row


async def visible_node(call: Call, row_id: str) -> Node:
    """The node, if the caller may do there what this route does."""
    row = await get_node(call.session, row_id)
    call.check_realm(row.realm_id, "node", row_id)
    return row


async def node_to_change(call: Call, row_id: str) -> Node:
    """The same, locked: its own descriptors and certificates change the row at any time."""
    row = await NodeRepository(call.session).locked(row_id)
    if row is None:
        raise NotFound("node", row_id)
    call.check_realm(row.realm_id, "node", row_id)
    return row


async def cut_off(call: Call, row: Node) -> None:
    """Its credential stops working, its edges go, and nodes are told to forget it."""
    if row.revoked_at is not None:
        return
    row.revoked_at = call.now
    await EdgeRepository(call.session).remove_of(row.id)
    await RealmRepository(call.session).bump(row.realm_id)
    call.emit("node.revoked", row.realm_id, row.id, {"name": row.name, "node_id": row.node_id})


async def revoke_node(call: Call, row_id: str) -> NodeOut:
    row = await node_to_change(call, row_id)
    before = node_out(row, call.context.hub)
    await cut_off(call, row)
    return _changed(call, row, before)


async def approve_node(call: Call, row_id: str) -> NodeOut:
    """From now on others learn of it. Approving twice is the same as once."""
    row = await node_to_change(call, row_id)
    if row.revoked_at is not None:
        raise Conflict("node-revoked", f"node {row.name} was revoked: it enrols again with a new identity")
    before = node_out(row, call.context.hub)
    if row.approved_at is None:
        row.approved_at = call.now
        await call.session.flush()
        await RealmRepository(call.session).bump(row.realm_id)
        call.emit("node.approved", row.realm_id, row.id, {"name": row.name, "node_id": row.node_id})
    return _changed(call, row, before)


async def patch_node(call: Call, row_id: str, patch: NodePatch) -> NodeOut:
    row = await node_to_change(call, row_id)
    call.match(row)
    before = node_out(row, call.context.hub)
    row.labels = patched(NodeConfig, NodeConfig(labels=row.labels), patch).labels
    call.emit("node.changed", row.realm_id, row.id, {"name": row.name})
    return _changed(call, row, before)


def _changed(call: Call, row: Node, before: NodeOut) -> NodeOut:
    call.show(row)
    after = node_out(row, call.context.hub)
    call.audit(row.id, row.realm_id, before, after)
    return after


def state_of(row: Node) -> NodeState:
    if row.revoked_at is not None:
        return "revoked"
    return "pending" if row.approved_at is None else "active"


async def accept_descriptor(call: Call, body: SignedDocument) -> DescriptorOut:
    """Written without the ORM: with every node of a fleet it is what a Master does most."""
    nodes, row_id = NodeRepository(call.session), call.node.id
    held = await nodes.described(row_id)
    if held is None or held.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {row_id} was revoked")
    if body.as_json() == held.descriptor:  # a repeated request
        return _described(held.descriptor_serial, held.descriptor_expires)
    descriptor = checked_descriptor(body, base64.b64decode(held.public_key), call.now)
    if descriptor.serial <= held.descriptor_serial:
        detail = f"serial {descriptor.serial} is not above {held.descriptor_serial}"
        raise Conflict("descriptor-stale", detail)
    await nodes.describe(row_id, body.as_json(), descriptor.serial, descriptor.expires)
    await DirectoryRepository(call.session).mark(held.realm_id, [row_id])
    note_change(call.session, held.realm_id)
    return _described(descriptor.serial, descriptor.expires)


def _described(serial: int, expires: int) -> DescriptorOut:
    return DescriptorOut.model_validate({"serial": serial, "expires_at": expires})


def checked_descriptor(body: SignedDocument, node_key: bytes, now: int) -> Descriptor:
    try:
        descriptor = verify_descriptor(body.as_json(), node_key, now)
    except DirectoryError as error:
        raise Invalid("signature-invalid", f"descriptor: {error}") from error
    if descriptor.expires > now + DESCRIPTOR_SECONDS_MAX:  # its end is what tells that a node is gone
        raise Invalid("signature-invalid", f"descriptor: runs longer than {DESCRIPTOR_SECONDS_MAX} s")
    return descriptor


def store_descriptor(row: Node, body: SignedDocument, descriptor: Descriptor) -> None:
    row.descriptor = body.as_json()
    row.descriptor_serial = descriptor.serial
    row.descriptor_expires = descriptor.expires


def node_out(row: Node, hub: Hub) -> NodeOut:
    return NodeOut.model_validate(
        {
            "id": row.id,
            "realm_id": row.realm_id,
            "node_id": row.node_id,
            "name": row.name,
            "roles": row.roles,
            "taints": row.taints,
            "labels": row.labels,
            "ipv4": row.ipv4,
            "ipv6": row.ipv6,
            "state": state_of(row),
            "connected": hub.connected(row.id),
            "certificate_expires_at": row.certificate_not_after,
            "descriptor_expires_at": row.descriptor_expires,
            "created_at": row.created_at,
            "last_seen_at": row.last_seen_at,
            "approved_at": row.approved_at,
            "revoked_at": row.revoked_at,
        }
    )
