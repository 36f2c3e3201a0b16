# SPDX-License-Identifier: Apache-2.0
"""A realm's policy: read, replace, check before replacing, explain a decision; and the taints of a node."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Invalid, NotFound
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.lifecycle import locked_node, visible_node
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.call import Call
from veilnet.api.policies.impact import impact
from veilnet.api.policies.models import RealmPolicy
from veilnet.api.policies.repository import PolicyRepository
from veilnet.api.policies.schemas import (
    Explained,
    NodeTaints,
    Pair,
    PolicyCheck,
    PolicyDocument,
    PolicyExplanation,
    PolicyOut,
    TestFailure,
)
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import visible_realm
from veilnet.api.snapshots.publisher import worn
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.topology.repository import EdgeRepository
from veilnet.protocol.envelope import MalformedDocument, read_envelope
from veilnet.protocol.policy import Expectation, Failure, Policy, Subject, decide, read_document, read_policy, run_tests


async def show(call: Call, realm_ref: str) -> PolicyOut:
    row = await _row(call.session, await visible_realm(call, realm_ref))
    call.show(row)
    return _out(row)


async def replace(call: Call, realm_ref: str, body: PolicyDocument) -> PolicyOut:
    """Takes a document whose tests hold. Nodes get it with the realm's next head, at once."""
    realm = await visible_realm(call, realm_ref)
    row = await _row(call.session, realm)
    call.match(row)
    before = _out(row)
    policy, tests = _read(body)
    failures = run_tests(policy, tests, (await _fleet(call.session, realm)).get)
    if failures:
        first = failures[0]
        raise Invalid("policy-test-failed", f"{len(failures)} tests fail; test {first.index}: {first.detail}")
    row.document, row.updated_at = body.model_dump(mode="json", by_alias=True), call.now
    await call.session.flush()
    await DirectoryRepository(call.session).mark(realm.id, [None])
    await RealmRepository(call.session).bump(realm.id)
    call.show(row)
    after = _out(row)
    call.audit(row.id, realm.id, before, after)
    call.emit("policy.changed", realm.id, row.id, {})
    return after


async def check(call: Call, realm_ref: str, body: PolicyDocument) -> PolicyCheck:
    """What the document would change; nothing is changed."""
    realm = await visible_realm(call, realm_ref)
    row = await _row(call.session, realm)
    (policy, tests), fleet = _read(body), await _fleet(call.session, realm)
    found = await asyncio.to_thread(impact, read_policy(row.document), policy, list(fleet.values()))
    return PolicyCheck(
        failures=[_failure(item) for item in run_tests(policy, tests, fleet.get)],
        gained_total=found.gained_total,
        lost_total=found.lost_total,
        gained=[Pair(a=a, b=b, reasons=list(reasons)) for a, b, reasons in found.gained],
        lost=[Pair(a=a, b=b, reasons=list(reasons)) for a, b, reasons in found.lost],
    )


async def explain(call: Call, realm_ref: str, a: str, b: str) -> PolicyExplanation:
    realm = await visible_realm(call, realm_ref)
    row = await _row(call.session, realm)
    one, other = await _node(call.session, realm, a), await _node(call.session, realm, b)
    if one.id == other.id:
        raise Invalid("invalid", f"{a!r} and {b!r} are one node")
    ends = _subject(one), _subject(other)
    decision = decide(read_policy(row.document), *ends)
    first, second = sorted((one.id, other.id))
    return PolicyExplanation(
        allowed=decision.allowed,
        reasons=list(decision.reasons),
        neighbours=await EdgeRepository(call.session).between(first, second) is not None,
        a=_explained(ends[0]),
        b=_explained(ends[1]),
    )


# ---- taints ------------------------------------------------------------------------------------------------------


async def show_taints(call: Call, row_id: str) -> NodeTaints:
    row = await visible_node(call, row_id)
    call.show(row)
    return NodeTaints(taints=row.taints)


async def replace_taints(call: Call, row_id: str, body: NodeTaints) -> NodeTaints:
    """Signed into a new certificate at once."""
    row = await locked_node(call, row_id)
    call.match(row)
    before = NodeTaints(taints=row.taints)
    await lifecycle.retaint(call.session, row, call.now, body.taints)
    call.show(row)
    after = NodeTaints(taints=row.taints)
    call.audit(row.id, row.realm_id, before, after)
    return after


# ---- inside --------------------------------------------------------------------------------------------------------


async def _row(session: AsyncSession, realm: Realm) -> RealmPolicy:
    row = await PolicyRepository(session).of_realm(realm.id)
    if row is None:
        raise NotFound("policy of realm", realm.name)
    return row


async def _fleet(session: AsyncSession, realm: Realm) -> dict[str, Subject]:
    return {row.name: _subject(row) for row in await NodeRepository(session).alive(realm.id)}


async def _node(session: AsyncSession, realm: Realm, name: str) -> Node:
    row = await NodeRepository(session).named(realm.id, name)
    if row is None:
        raise NotFound(f"active node in realm {realm.name}", name)
    return row


def _read(body: PolicyDocument) -> tuple[Policy, tuple[Expectation, ...]]:
    try:
        return read_document(body.model_dump(mode="json", by_alias=True))
    except MalformedDocument as error:
        raise Invalid("policy-invalid", str(error)) from error


def _subject(row: Node) -> Subject:
    return Subject(row.name, frozenset(row.taints), worn(row, read_envelope(row.descriptor)))


def _explained(subject: Subject) -> Explained:
    return Explained(name=subject.name, taints=sorted(subject.taints), worn=sorted(subject.worn))


def _failure(failure: Failure) -> TestFailure:
    return TestFailure(index=failure.index, detail=failure.detail)


def _out(row: RealmPolicy) -> PolicyOut:
    return PolicyOut.model_validate(row)
