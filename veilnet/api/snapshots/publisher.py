# SPDX-License-Identifier: Apache-2.0
"""Signs what has changed: records of nodes and the realm's head, a few at a time, never the whole realm.

What there is to sign stands in `directory_changes`, written in the transaction of the change. Whichever replica gets
here first signs; the others find nothing to do. The same content is not signed twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.clock import clock_fault, signed_in_a_future_that_was_none
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.errors import ClockSuspect
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.policies.repository import PolicyRepository
from veilnet.api.realms.lifetimes import lifetimes
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import get_realm, names_of
from veilnet.api.rotation.authority import Authority, authority
from veilnet.api.snapshots.certificates import is_due, issue_certificate, renew_at
from veilnet.api.snapshots.index import Facts
from veilnet.api.snapshots.models import DirectoryHead, DirectoryRecord
from veilnet.api.snapshots.repository import DirectoryRepository, Neighbour
from veilnet.protocol.documents import CLOCK_SKEW
from veilnet.protocol.envelope import Envelope, canonical_json, read_envelope, strict_json
from veilnet.protocol.policy import policy_json, read_policy
from veilnet.protocol.records import Entry, digest, edge_owner, record_json, sign_entry, sign_head

_log = logging.getLogger("veilnet.api.publisher")

BATCH: Final = 64
"""Records signed in one transaction, about 0.8 ms each."""
FORMER_MAX: Final = 16
"""Former facts that are kept of a node."""


async def publish(context: Context, realm_id: str) -> None:
    """Sign everything that is waiting now. Raises ClockSuspect if the clock is suspect.

    What comes meanwhile is left to the next call: where changes never end, a feed would sign and never send.
    """
    newest = await _newest(context, realm_id)
    while await _waiting(context, realm_id, newest):
        async with context.publishing[realm_id], write_session(context.engine, context.hub) as session:
            batch = _Batch(session, context, realm_id)
            await batch.run()
        if batch.began_again:
            newest = await _newest(context, realm_id)


async def mark_due(context: Context, realm_id: str) -> None:
    """Put certificates that are due, and records of another CA key, on the list; some at a time."""
    async with read_session(context.engine) as session:
        realm, directory = await get_realm(session, realm_id), DirectoryRepository(session)
        found = await authority(session, context.cas, realm)
        due: list[str | None] = list(await directory.due(realm_id, context.clock(), found.signer, BATCH))
        due += await directory.unrecorded(realm_id)
    if due:
        async with write_session(context.engine, context.hub) as session:
            await DirectoryRepository(session).mark(realm_id, due)


async def _newest(context: Context, realm_id: str) -> int:
    async with read_session(context.engine) as session:
        return await DirectoryRepository(session).newest_change(realm_id)


async def _waiting(context: Context, realm_id: str, newest: int) -> bool:
    async with read_session(context.engine) as session:
        directory = DirectoryRepository(session)
        due = _is_due(await directory.head(realm_id), context.clock)
        return due or any(change.id <= newest for change in await directory.changes(realm_id, 1))


def _is_due(head: DirectoryHead | None, clock: Callable[[], int]) -> bool:
    if head is None or head.renew_at <= clock():
        return True
    return signed_in_a_future_that_was_none(clock, head.signed_at)


class _Batch:
    """One transaction of the publisher."""

    def __init__(self, session: AsyncSession, context: Context, realm_id: str) -> None:
        self._session, self._context, self._realm_id = session, context, realm_id
        self._directory, self._nodes = DirectoryRepository(session), NodeRepository(session)
        self._now = context.clock()
        self._seconds = 0
        """Life of a certificate; known with the realm."""
        self.began_again = False
        """What was signed by a clock that was ahead is on the list again."""

    async def run(self) -> None:
        await self._directory.alone(self._realm_id)
        changes = await self._directory.changes(self._realm_id, BATCH)
        head = await self._directory.head(self._realm_id)
        if not changes and not _is_due(head, self._context.clock):
            return  # another replica was faster
        await RealmRepository(self._session).bump(self._realm_id)  # realm first, then nodes, as everybody locks them
        rows = await self._directory.nodes({change.node_id for change in changes if change.node_id is not None})
        realm = await get_realm(self._session, self._realm_id)
        await self._session.refresh(realm)
        self._seconds = lifetimes(realm, self._context.settings).certificate
        await self._check_clock(head)
        ca = await authority(self._session, self._context.cas, realm)
        await self._sign_records(rows, ca, realm.revision)
        if head is None or head.renew_at <= self._now or any(change.node_id is None for change in changes):
            await self._sign_head(realm, ca, head)
        await self._directory.done(changes)

    async def _check_clock(self, head: DirectoryHead | None) -> None:
        signed_at = head.signed_at if head is not None else 0
        fault = clock_fault(self._context.clock, signed_at)
        if fault:
            raise ClockSuspect(fault)
        if head is None:
            return
        if signed_in_a_future_that_was_none(self._context.clock, signed_at):
            self.began_again = True
            await self._directory.invalidate(self._realm_id)
            alive = await self._nodes.alive(self._realm_id)
            await self._directory.mark(self._realm_id, [None, *(row.id for row in alive)])
        head.signed_at = self._now

    # ---- a record ------------------------------------------------------------------------------------------------

    async def _sign_records(self, rows: Sequence[Node], ca: Authority, version: int) -> None:
        """A query a table, however many there are."""
        if not rows:
            return
        node_ids = {row.id for row in rows}
        held, neighbours = await self._directory.records(node_ids), await self._directory.neighbours(node_ids)
        for row in rows:
            if row.is_member:
                self._sign_record(row, held.get(row.id), _listed(row, neighbours[row.id]), ca, version)
            elif (record := held.get(row.id)) is not None and not record.gone:
                self._bury(row, record, ca, version)

    def _sign_record(
        self, row: Node, held: DirectoryRecord | None, edges: frozenset[bytes], ca: Authority, version: int
    ) -> None:
        if is_due(row, ca, self._now, self._seconds):
            issue_certificate(row, ca, self._now, self._seconds)
        cert, descriptor = read_envelope(row.certificate), read_envelope(row.descriptor)
        node_id, bound = bytes.fromhex(row.node_id), (digest(cert), digest(descriptor))
        facts = _facts(row, node_id, worn(row, descriptor), edges)
        draining = row.drained_at is not None
        content = _content(ca.signer, *bound, facts, draining=draining)
        renewal = renew_at(row, self._now, self._seconds)
        if held is None:
            held = DirectoryRecord(node_id=row.id, realm_id=row.realm_id, gone=True, facts={}, content="")
            self._directory.add(held)
        held.renew_at = renewal
        if held.content == content and not held.gone:
            return
        if held.gone or held.facts != facts:
            held.former = [] if held.gone else _former(held, facts, version)
            held.facts, held.facts_version = facts, version
        held.version, held.content, held.signer, held.gone = version, content, ca.signer, False
        entry = Entry(node_id, version, self._now, *bound, edges, draining=draining)
        held.document = _text(record_json(sign_entry(entry, ca.realm, ca.key), cert, descriptor))

    def _bury(self, row: Node, held: DirectoryRecord, ca: Authority, version: int) -> None:
        longest = max(self._seconds, self._context.settings.certificate_seconds)
        until = max(row.certificates_until, self._now + longest) + CLOCK_SKEW
        entry = Entry(bytes.fromhex(row.node_id), version, self._now, until=until)
        held.version = held.facts_version = version
        held.gone, held.renew_at, held.content, held.signer = True, until, "", ca.signer
        held.document = _text(record_json(sign_entry(entry, ca.realm, ca.key)))

    # ---- the head ------------------------------------------------------------------------------------------------

    async def _sign_head(self, realm: Realm, ca: Authority, held: DirectoryHead | None) -> None:
        row = await PolicyRepository(self._session).of_realm(realm.id)
        policy = read_policy(row.document if row is not None else {})
        floor = await self._floor(realm, held)
        signed = policy_json(policy)
        envelope = sign_head(
            ca_key=ca.key,
            realm=ca.realm,
            version=realm.revision,
            issued=self._now,
            expires=self._now + self._context.settings.snapshot_seconds,
            settings=head_settings(realm),
            policy=policy,
            chain=ca.chain,
            retired=ca.retired,
            floor=floor,
            names=names_of(realm),
        )
        if held is None:
            held = DirectoryHead(realm_id=realm.id, policy={}, policy_version=realm.revision)
            self._directory.add(held)
        if held.policy != signed:
            held.policy, held.policy_version = signed, realm.revision
        held.version, held.floor, held.signed_at = realm.revision, floor, self._now
        held.renew_at = self._now + self._context.settings.head_renew_seconds
        held.document = _text(envelope.as_json())

    async def _floor(self, realm: Realm, held: DirectoryHead | None) -> int:
        """Only when every node has its new record: what a node still uses must not be shut out before."""
        before = held.floor if held is not None else 0
        if realm.version_floor == before or await self._directory.unrecorded(realm.id):
            return before
        return realm.version_floor


def _listed(row: Node, neighbours: list[Neighbour]) -> frozenset[bytes]:
    """Neighbours that this node's record lists."""
    own, relays = bytes.fromhex(row.node_id), "guardian" in row.roles
    found = [(bytes.fromhex(item.node_id), "guardian" in item.roles) for item in neighbours]
    return frozenset(other for other, other_relays in found if edge_owner(own, relays, other, other_relays) == own)


def _former(held: DirectoryRecord, facts: dict[str, Any], version: int) -> list[Any]:
    """Each once, however often a node goes back and forth."""
    others = [item for item in held.former if item[1] not in (held.facts, facts)]
    return [*others, [version, held.facts]][-FORMER_MAX:]


def _facts(row: Node, node_id: bytes, kept: frozenset[str], edges: frozenset[bytes]) -> dict[str, Any]:
    roles, taints = frozenset(row.roles), frozenset(row.taints)
    return Facts(node_id, row.id, row.name, roles, taints, kept, edges).as_json()


def worn(row: Node, descriptor: Envelope) -> frozenset[str]:
    """What the node keeps on of what it was granted. The descriptor was verified when it was taken."""
    stated = strict_json(descriptor.payload, len(descriptor.payload)).get("taints")
    return frozenset(row.taints) if stated is None else frozenset(row.taints) & frozenset(stated)


def _content(signer: str, cert: str, descriptor: str, facts: dict[str, Any], *, draining: bool) -> str:
    also = ["draining"] if draining else []
    return hashlib.sha256(canonical_json([signer, cert, descriptor, facts["edges"], *also])).hexdigest()


def _text(value: object) -> str:
    return canonical_json(value).decode()


def head_settings(realm: Realm) -> dict[str, int | str]:
    """Under the names that keyd knows (`veilnet.keyd.core.Settings`), and the overlay's ranges for its routes."""
    return {
        "min_guardians": realm.min_guardians,
        "rekey_interval": realm.rekey_seconds,
        "link_idle": realm.idle_seconds,
        "stream_idle": realm.idle_seconds,
        "ipv4_range": realm.ipv4_range,
        "ipv6_prefix": realm.ipv6_prefix,
    }
