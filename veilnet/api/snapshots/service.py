# SPDX-License-Identifier: Apache-2.0
"""Snapshots are built when somebody asks and the realm has changed: a burst of changes costs one signature."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import get_realm
from veilnet.api.snapshots.certificates import issue_certificate, renew_at
from veilnet.api.snapshots.models import Snapshot
from veilnet.api.snapshots.repository import SnapshotRepository
from veilnet.api.topology.repository import EdgeRepository
from veilnet.protocol.directory import read_envelope, sign_snapshot


async def current(context: Context, realm_id: str) -> Snapshot:
    """The realm's snapshot, signed anew if the realm changed or it is time."""
    async with read_session(context.engine) as session:
        found = await _fresh(session, realm_id, context.clock())
    if found is not None:
        return found
    async with context.publishing[realm_id], write_session(context.engine, context.hub) as session:
        return await _fresh(session, realm_id, context.clock()) or await _publish(session, context, realm_id)


async def _fresh(session: AsyncSession, realm_id: str, now: int) -> Snapshot | None:
    realm = await get_realm(session, realm_id)
    last = await SnapshotRepository(session).last(realm_id)
    return last if last is not None and last.version == realm.revision and now < last.renew_at else None


async def _publish(session: AsyncSession, context: Context, realm_id: str) -> Snapshot:
    now, settings = context.clock(), context.settings
    realm = await get_realm(session, realm_id)
    last = await SnapshotRepository(session).last(realm_id)
    if last is not None and last.version >= realm.revision:  # nothing changed, but it is time
        await RealmRepository(session).bump(realm_id)
        await session.refresh(realm)
    ca_key = context.cas.key(realm.wire_id)
    nodes = await NodeRepository(session).alive(realm_id)
    for node in nodes:
        if now >= renew_at(node, settings.certificate_seconds):
            issue_certificate(node, ca_key, now, settings.certificate_seconds)
    expires = now + settings.snapshot_seconds
    envelope = sign_snapshot(
        ca_key=ca_key,
        version=realm.revision,
        issued=now,
        expires=expires,
        settings=_settings(realm),
        nodes=[(read_envelope(node.certificate), read_envelope(node.descriptor)) for node in nodes],
        edges=await _edges(session, realm_id, nodes),
    )
    renewals = [renew_at(node, settings.certificate_seconds) for node in nodes]
    due = min([now + settings.snapshot_seconds // 2, *renewals])
    text = envelope.encode().decode()
    return await SnapshotRepository(session).store(
        Snapshot(realm_id=realm_id, version=realm.revision, envelope=text, renew_at=due)
    )


async def _edges(session: AsyncSession, realm_id: str, nodes: list[Node]) -> list[tuple[bytes, bytes]]:
    wire_ids = {node.id: bytes.fromhex(node.node_id) for node in nodes}
    return [(wire_ids[edge.a_id], wire_ids[edge.b_id]) for edge in await EdgeRepository(session).of_realm(realm_id)]


def _settings(realm: Realm) -> dict[str, int | str]:
    """Under the names that keyd knows (`veilnet.keyd.core.Settings`), and the overlay's ranges for its routes."""
    return {
        "min_guardians": realm.min_guardians,
        "rekey_interval": realm.rekey_seconds,
        "link_idle": realm.idle_seconds,
        "stream_idle": realm.idle_seconds,
        "ipv4_range": realm.ipv4_range,
        "ipv6_prefix": realm.ipv6_prefix,
    }
