# SPDX-License-Identifier: Apache-2.0
"""A node joins: token, proof of possession, certificate, credential. Repeating it gives the same node."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.context import Context
from veilnet.api.enrolment.schemas import Enrolled, EnrolmentRequest, Joined
from veilnet.api.errors import Conflict, Forbidden, Invalid, Unauthorized
from veilnet.api.ids import new_id
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.nodes.service import checked_descriptor, store_descriptor
from veilnet.api.platform.call import Call
from veilnet.api.realms.lifetimes import lifetimes
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import ula_address
from veilnet.api.rotation.authority import authority
from veilnet.api.secrets import bearer, new_secret, quick_hash
from veilnet.api.snapshots.certificates import issue_certificate, lapsed
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.api.tokens.service import authenticate, check_source, spend
from veilnet.protocol.directory import DirectoryError, key_id
from veilnet.protocol.enrolment import EnrolmentClaim, verify_claim

_NOT_YET: Final = (
    *("last_seen_at", "expires_at", "expired_at", "drained_at", "revoked_at", "deleted_at"),
    *("software_version", "software_provider", "software_kernel", "software_since"),
)


async def enrol(call: Call, body: EnrolmentRequest) -> Enrolled:
    session, context, now = call.session, call.context, call.now
    token = await authenticate(session, body.token_id, body.secret)
    check_source(token, call.principal.source)
    realm = await RealmRepository(session).locked(token.realm_id)  # addresses, names, the token's uses: one at a time
    if realm is None:
        raise Unauthorized("enrolment-refused", "the token's realm was deleted")
    await session.refresh(token)
    claim = _checked_claim(body, realm, token, now)
    node = await NodeRepository(session).by_identity(key_id(claim.key).hex())
    lives = lifetimes(realm, context.settings)
    if node is not None and node.realm_id != realm.id:
        raise Conflict("name-taken", "this identity is of another realm: enrol with a new one")
    if node is None or node.deleted_at is not None:
        spend(token, now)
        node = await _new_node(session, context, realm, token, claim, node)
    elif node.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {node.name} was revoked: enrol with a new identity")
    elif node.expired_at is not None or lapsed(node.certificate_not_after, now, lives.grace):
        spend(token, now)
        await _readmit(session, context, realm, token, node)
    elif node.token_id != token.id:
        raise Conflict("name-taken", f"this identity is already enrolled as {node.name}")
    await _take_descriptor(session, node, body, now)
    answer = await _answer(session, context, realm, node)
    call.audit(node.id, realm.id, after=Joined(node_id=node.node_id, name=node.name, token_id=token.id))
    call.emit("node.enrolled", realm.id, node.id, {"name": node.name, "node_id": node.node_id})
    return answer


def _checked_claim(body: EnrolmentRequest, realm: Realm, token: EnrolmentToken, now: int) -> EnrolmentClaim:
    try:
        claim = verify_claim(body.request.as_json(), now)
    except DirectoryError as error:
        raise Invalid("signature-invalid", f"enrolment request: {error}") from error
    if claim.realm.hex() != realm.wire_id or claim.token != token.id:
        raise Invalid("signature-invalid", "enrolment request: signed for another realm or token")
    return claim


async def _new_node(  # noqa: PLR0917 - what a node is made of
    session: AsyncSession,
    context: Context,
    realm: Realm,
    token: EnrolmentToken,
    claim: EnrolmentClaim,
    deleted: Node | None,
) -> Node:
    """`deleted`: the row of this identity from before. It starts anew in it, so that its tombstone stays in the
    directory until the new record outdoes it."""
    now, nodes, node_id = context.clock(), NodeRepository(session), key_id(claim.key)
    name = token.node_name or claim.name
    if await nodes.named(realm.id, name) is not None:
        raise Conflict("name-taken", f"realm {realm.name} has a node {name}: choose another name")
    used = await nodes.used_ipv4(realm.id)
    own_again = deleted is not None and used[deleted.ipv4] is not None
    ipv4 = deleted.ipv4 if deleted and own_again else str(free_ipv4(IPv4Network(realm.ipv4_range), used))
    row = deleted or Node(id=new_id("nod"), certificate_serial=0, descriptor_serial=0)
    fields: dict[str, Any] = {
        "realm_id": realm.id,
        "token_id": token.id,
        "node_id": node_id.hex(),
        "name": name,
        "roles": token.roles,
        "taints": token.auto_taints,
        "labels": {},
        "networks": [],
        "ipv4": ipv4,
        "ipv6": str(ula_address(IPv6Network(realm.ipv6_prefix), node_id)),
        "public_key": base64.b64encode(claim.key).decode(),
        "created_at": now,
        "approved_at": None if token.requires_approval else now,
        "ephemeral": token.ephemeral,
        **dict.fromkeys(_NOT_YET),
    }
    for field, value in fields.items():
        setattr(row, field, value)
    ca = await authority(session, context.cas, realm)
    issue_certificate(row, ca, now, lifetimes(realm, context.settings).certificate)
    return row


async def _readmit(session: AsyncSession, context: Context, realm: Realm, token: EnrolmentToken, row: Node) -> None:
    """An expired node enrols again: it keeps its name, addresses and edges, and gets what this token gives."""
    if token.node_name not in {None, row.name}:
        raise Conflict("name-taken", f"this identity is node {row.name}, the token is for {token.node_name}")
    now = context.clock()
    row.token_id, row.roles, row.taints, row.ephemeral = token.id, token.roles, token.auto_taints, token.ephemeral
    row.approved_at = None if token.requires_approval else now
    row.last_seen_at = now
    await lifecycle.renew(session, row, now)
    ca = await authority(session, context.cas, realm)
    issue_certificate(row, ca, now, lifetimes(realm, context.settings).certificate)


async def _take_descriptor(session: AsyncSession, node: Node, body: EnrolmentRequest, now: int) -> None:
    descriptor = checked_descriptor(body.descriptor, base64.b64decode(node.public_key), now)
    if descriptor.serial > node.descriptor_serial:
        store_descriptor(node, body.descriptor, descriptor)
        await RealmRepository(session).bump(node.realm_id)


async def _answer(session: AsyncSession, context: Context, realm: Realm, node: Node) -> Enrolled:
    """A fresh credential each time: only its hash is kept, so the old one can't be shown again."""
    secret = new_secret()
    node.credential_hash = quick_hash(secret)
    await NodeRepository(session).add(node)
    ca = await authority(session, context.cas, realm)
    return Enrolled.model_validate(
        {
            "id": node.id,
            "node_id": node.node_id,
            "name": node.name,
            "roles": node.roles,
            "ipv4": node.ipv4,
            "ipv6": node.ipv6,
            "ipv4_range": realm.ipv4_range,
            "ipv6_prefix": realm.ipv6_prefix,
            "credential": bearer("vnn", node.id, secret),
            "ca_key": realm.ca_key,
            "ca_chain": [envelope.as_json() for envelope in ca.chain],
            "certificate": node.certificate,
        }
    )


def free_ipv4(network: IPv4Network, used: Mapping[str, int | None]) -> IPv4Address:
    """Lowest address that nobody had; else the one given up longest ago. The unique index is what makes it certain.

    `used`: address → None, or when it was given up. People keep addresses in firewalls and in their heads: what was
    meant for the node before must not soon reach, or be allowed to, the next one that enrols.
    """
    for address in network.hosts():
        if str(address) not in used:
            return address
    given_up = [(when, IPv4Address(text)) for text, when in used.items() if when is not None]
    left = [(when, address) for when, address in given_up if address in network]
    if not left:
        detail = f"every address of {network} is in use: make a realm with a larger range"
        raise Conflict("address-range-full", detail)
    return min(left)[1]
