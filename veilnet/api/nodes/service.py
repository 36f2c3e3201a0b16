# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Invalid, NotFound
from veilnet.api.hub import Hub
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.descriptors import check_next, check_there
from veilnet.api.nodes.lifecycle import locked_node, visible_node
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.schemas import DescriptorOut, NodeConfig, NodeExpiry, NodeOut, NodePatch, NodeState
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.schemas import SignedDocument
from veilnet.api.times import DAY
from veilnet.protocol.directory import Descriptor, DirectoryError, verify_descriptor

DESCRIPTOR_SECONDS_MAX: Final = 31 * DAY
Step = Callable[[AsyncSession, Node, int], Awaitable[None]]
"""A step of `lifecycle`: session, locked row, unix seconds."""


async def act(call: Call, row_id: str, step: Step) -> NodeOut:
    """One step of a node's life; twice is the same as once."""
    row = await locked_node(call, row_id)
    before = node_out(row, call.context.hub)
    await step(call.session, row, call.now)
    return _changed(call, row, before)


async def expire_node(call: Call, row_id: str, body: NodeExpiry | None) -> NodeOut:
    return await act(call, row_id, expiring(body))


def expiring(body: NodeExpiry | None) -> Step:
    at = None if body is None or body.expires_at is None else int(body.expires_at.timestamp())

    async def step(session: AsyncSession, row: Node, now: int) -> None:
        await lifecycle.expire(session, row, now, at)

    return step


async def drain_guardian(call: Call, row_id: str, step: Step) -> NodeOut:
    """For whoever runs relays only: what is no Guardian is not there."""
    if "guardian" not in (await visible_node(call, row_id)).roles:
        raise NotFound("guardian", row_id)
    return await act(call, row_id, step)


async def delete_node(call: Call, row_id: str) -> None:
    row = await locked_node(call, row_id)
    call.match(row)
    before = node_out(row, call.context.hub)
    await lifecycle.delete(call.session, row, call.now)
    call.audit(row.id, row.realm_id, before)


async def patch_node(call: Call, row_id: str, patch: NodePatch) -> NodeOut:
    row = await locked_node(call, row_id)
    call.match(row)
    before = node_out(row, call.context.hub)
    relabel(call, row, patch)
    return _changed(call, row, before)


def _changed(call: Call, row: Node, before: NodeOut) -> NodeOut:
    call.show(row)
    after = node_out(row, call.context.hub)
    call.audit(row.id, row.realm_id, before, after)
    return after


def relabel(call: Call, row: Node, patch: NodePatch) -> None:
    row.labels = patched(NodeConfig, NodeConfig(labels=row.labels), patch).labels
    call.emit("node.changed", row.realm_id, row.id, {"name": row.name})


def state_of(row: Node) -> NodeState:
    if row.revoked_at is not None:
        return "revoked"
    if row.expired_at is not None:
        return "expired"
    return "pending" if row.approved_at is None else "active"


async def accept_descriptor(call: Call, body: SignedDocument) -> DescriptorOut:
    row_id, document = call.node.id, body.as_json()
    held = await NodeRepository(call.session).described(row_id)
    check_there(held, row_id)
    assert held is not None
    if document == held.descriptor:  # a repeated request
        return _described(held.descriptor_serial, held.descriptor_expires)
    descriptor = checked_descriptor(body, base64.b64decode(held.public_key), call.now)
    check_next(held, row_id, descriptor.serial)
    await call.session.close()  # its connection may be the one that the writer waits for
    await call.context.descriptors.put(row_id, document, descriptor.serial, descriptor.expires)
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
            "draining": row.drained_at is not None,
            "ephemeral": row.ephemeral,
            "connected": hub.connected(row.id),
            "certificate_expires_at": min(row.certificate_not_after, row.expired_at or row.certificate_not_after),
            "descriptor_expires_at": row.descriptor_expires,
            "created_at": row.created_at,
            "last_seen_at": row.last_seen_at,
            "approved_at": row.approved_at,
            "expires_at": row.expires_at,
            "expired_at": row.expired_at,
            "drained_at": row.drained_at,
            "revoked_at": row.revoked_at,
        }
    )
