# SPDX-License-Identifier: Apache-2.0
"""What is kept no longer goes, by one replica, without a gap in what stays."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import delete, func, select, update

from tests.api.conftest import Master, make_settings
from tests.patience import PATIENCE
from veilnet.api.app import create_app
from veilnet.api.audit.models import AuditEvent
from veilnet.api.clock import WatchedClock
from veilnet.api.db import read_session, write_session
from veilnet.api.idempotency.models import IdempotencyKey
from veilnet.api.models import Base
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.retention.models import Job
from veilnet.api.retention.service import BATCH, JOB, take_turn
from veilnet.api.retention.settings import RetentionSettings
from veilnet.api.snapshots.feed import Feed
from veilnet.api.snapshots.models import DirectoryRecord
from veilnet.api.storage.doctor import examine
from veilnet.api.times import DAY
from veilnet.api.webhooks.sender import GIVE_UP_SECONDS


async def users(master: Master, *names: str, key: bool = False) -> None:
    for name in names:
        headers = {**master.admin, **({"Idempotency-Key": name} if key else {})}
        await master.request("POST", "/users", json={"name": name}, headers=headers, status=201)


async def turn(master: Master) -> dict[str, int]:
    master.clock.now += master.context.settings.retention.every_seconds
    dropped = await take_turn(master.context)
    assert dropped is not None
    return dropped


async def column(master: Master, attribute: Any) -> list[Any]:
    async with read_session(master.context.engine) as session:
        return list(await session.scalars(select(attribute).order_by(attribute)))


async def verified(master: Master) -> dict[str, Any]:
    started = await master.request("POST", "/audit-events/verify", status=202)
    async with asyncio.timeout(PATIENCE):
        while (found := await master.request("GET", f"/operations/{started['id']}"))["state"] == "running":
            await asyncio.sleep(0.02)
    result: dict[str, Any] = found["result"]
    return result


async def renew(master: Master) -> None:
    """The administrator's token is good for a year only, and these tests go on for longer."""
    async with write_session(master.context.engine, master.context.hub) as session:
        tokens = Base.metadata.tables["api_tokens"]
        await session.execute(update(tokens).values(expires_at=master.clock.now + DAY))


async def test_events_go_from_the_oldest_on(master: Master) -> None:
    await users(master, "a", "b")
    master.clock.now += 5 * DAY
    await users(master, "c")
    assert (await turn(master))["outbox"] == 0
    master.clock.now += 2 * DAY
    assert (await turn(master))["outbox"] == 2
    assert await column(master, OutboxEvent.id) == [3]
    await master.request("GET", "/events", headers={**master.admin, "Last-Event-ID": "1"}, status=410)
    master.clock.now += 10 * DAY
    assert (await turn(master))["outbox"] == 1
    await users(master, "d")
    assert await column(master, OutboxEvent.id) == [4]  # numbers go on, also when all were dropped


async def test_an_event_of_a_clock_that_was_ahead_leaves_no_gap(master: Master) -> None:
    await users(master, "a", "b", "c")
    async with write_session(master.context.engine, master.context.hub) as session:
        await session.execute(update(OutboxEvent).where(OutboxEvent.id == 2).values(created_at=master.clock.now + DAY))
    master.clock.now += 7 * DAY
    assert (await turn(master))["outbox"] == 1
    assert await column(master, OutboxEvent.id) == [2, 3]


async def test_the_audit_verifies_from_its_anchor_on(master: Master) -> None:
    await users(master, "a", "b", "c")
    master.clock.now += 200 * DAY
    await users(master, "d")
    whole = await verified(master)
    assert (whole["entries"], whole["first"], whole["first_fault"]) == (5, 1, None)  # the verification itself is in it
    master.clock.now += 200 * DAY + 1
    await renew(master)
    assert (await turn(master))["audit_events"] == 3
    await users(master, "e")
    rest = await verified(master)
    assert (rest["entries"], rest["first"], rest["first_fault"]) == (4, 4, None)  # d, two verifications, e
    async with write_session(master.context.engine, master.context.hub) as session:
        await session.execute(update(AuditEvent).where(AuditEvent.seq == 4).values(actor_name="somebody else"))
    assert (await verified(master))["first_fault"] == 4
    async with write_session(master.context.engine, master.context.hub) as session:
        await session.execute(delete(AuditEvent).where(AuditEvent.seq == 4))
    assert (await verified(master))["first_fault"] == 4  # missing behind the anchor: somebody else dropped it


async def test_what_does_not_verify_is_not_dropped(master: Master) -> None:
    await users(master, "a", "b", "c", "d")
    async with write_session(master.context.engine, master.context.hub) as session:
        await session.execute(update(AuditEvent).where(AuditEvent.seq == 3).values(actor_name="somebody else"))
    master.clock.now += 401 * DAY
    await renew(master)
    assert (await turn(master))["audit_events"] == 2
    assert await column(master, AuditEvent.seq) == [3, 4]
    assert (await turn(master))["audit_events"] == 0
    assert (await verified(master))["first_fault"] == 3


async def test_the_last_entry_of_the_audit_stays(master: Master) -> None:
    await users(master, "a", "b")
    master.clock.now += 500 * DAY
    assert (await turn(master))["audit_events"] == 1
    await renew(master)
    await users(master, "c")
    assert (await verified(master))["first_fault"] is None


async def test_idempotency_keys_count_for_a_day_and_then_go(master: Master) -> None:
    await users(master, "a", key=True)
    headers = {**master.admin, "Idempotency-Key": "a"}
    master.clock.now += DAY
    again = await master.client.post("/api/v1/users", json={"name": "a"}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    master.clock.now += 1  # over, whether or not the row is still there
    await master.request("POST", "/users", json={"name": "z"}, headers=headers, status=201)
    assert (await turn(master))["idempotency_keys"] == 0
    master.clock.now += DAY
    assert (await turn(master))["idempotency_keys"] == 1
    assert await column(master, IdempotencyKey.key) == []


async def test_operations_and_tombstones(master: Master) -> None:
    realm = await master.realm()
    enrolled = await master.enrol("one")
    feed = Feed(master.context, realm["id"])
    await feed.turn(due=True)
    await master.request("POST", f"/nodes/{enrolled['id']}/revoke")
    await feed.turn()
    await verified(master)
    master.clock.now += 8 * DAY
    assert (await turn(master))["directory_records"] == 0
    master.clock.now += 8 * DAY  # its certificate's end, and a week
    assert (await turn(master))["directory_records"] == 1
    assert await column(master, DirectoryRecord.node_id) == []
    assert (await turn(master))["operations"] == 0
    master.clock.now += 15 * DAY
    assert (await turn(master))["operations"] == 1


async def test_one_replica_has_the_turn_and_a_dead_one_holds_nothing_up(master: Master, tmp_path: Path) -> None:
    other = create_app(make_settings(tmp_path / "two", master.database.url), master.clock)
    both = (master.context, other.state.context)
    found = await asyncio.gather(*(take_turn(context) for context in both for _ in range(3)))
    assert sum(dropped is not None for dropped in found) == 1
    master.clock.now += 3600
    assert await take_turn(both[1]) is not None
    async with write_session(master.context.engine, master.context.hub) as session:
        await session.execute(update(Job).where(Job.name == JOB).values(next_at=master.clock.now + 10**9))
    assert await take_turn(both[0]) is not None  # a time from a clock that was wrong
    await other.state.context.engine.dispose()


async def test_more_than_a_transaction_takes(master: Master) -> None:
    count = 2 * BATCH + 7
    async with write_session(master.context.engine, master.context.hub) as session:
        session.add_all(
            OutboxEvent(id=number, type="a.b", realm_id=None, subject="s", data={}, request_id="r", created_at=0)
            for number in range(1, count + 1)
        )
    assert (await turn(master))["outbox"] == count
    async with read_session(master.context.engine) as session:
        assert await session.scalar(select(func.count()).select_from(OutboxEvent)) == 0
    value = master.context.metrics.registry.get_sample_value
    assert value("veilnet_master_retention_dropped_total", {"table": "outbox"}) == count
    assert value("veilnet_master_retention_timestamp_seconds") == master.clock.now


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_the_doctor_has_nothing_to_say(master: Master) -> None:
    await users(master, "a", "b")
    master.clock.now += 500 * DAY
    await turn(master)
    findings = await examine(master.context.settings)
    assert not [
        finding for finding in findings if finding.check in {"schema", "tables", "integrity"} and not finding.ok
    ]
    with closing(sqlite3.connect(master.context.settings.state_dir / "master.db")) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_settings_that_would_lose_something() -> None:
    assert RetentionSettings().events_seconds > GIVE_UP_SECONDS
    for values in ({"events_seconds": GIVE_UP_SECONDS}, {"audit_seconds": 0}, {"unknown": 1}, {"every_seconds": 0}):
        with pytest.raises(ValidationError):
            RetentionSettings(**values)
    assert RetentionSettings(audit_seconds=None).audit_seconds is None


async def test_a_suspect_clock_drops_nothing(master: Master) -> None:
    """By a clock that has jumped ahead, everything is old. A start means that it is right."""
    await users(master, "old")
    held = await column(master, OutboxEvent.id)
    uptime = master.clock.now

    def watched() -> WatchedClock:
        return WatchedClock(lambda: master.clock.now, lambda: uptime)

    jumped = replace(master.context, clock=watched())
    master.clock.now += 1000 * DAY
    assert await take_turn(jumped) is None
    assert held and await column(master, OutboxEvent.id) == held
    dropped = await take_turn(replace(master.context, clock=watched()))
    assert dropped is not None and dropped["outbox"] > 0
