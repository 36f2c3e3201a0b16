# SPDX-License-Identifier: Apache-2.0
"""An ephemeral node that is connected is not taken for absent, whatever befell the database or the other replicas."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tests.api.conftest import START, Identity, Master
from tests.api.test_lifetimes import row, settle
from tests.api.test_upkeep import touched
from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.snapshots.endpoints import _TRIED_AGAIN, _Presence
from veilnet.api.upkeep.service import GAP, PERIOD, Upkeep

LIFE = 600


class NoWrites:
    """While it is on, every commit of a transaction that writes fails."""

    def __init__(self, master: Master) -> None:
        self.on, self.tried = False, 0
        event.listen(master.context.engine.sync_engine, "before_cursor_execute", self._refuse)

    def _refuse(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self.on and statement.startswith(("UPDATE", "INSERT", "DELETE")):
            self.tried += 1
            raise OperationalError(statement, None, Exception("disk I/O error"))


async def a_job(master: Master) -> dict[str, Any]:
    await master.realm()
    await settle(master, ephemeral_seconds=LIFE)
    return await master.enrol("job", token=await master.token(ephemeral=True), identity=Identity())


def replica(master: Master) -> Upkeep:
    return Upkeep(master.context, master.clock.now, announced_at=10**12)


async def is_there(master: Master, node: dict[str, Any]) -> bool:
    found = await row(master, node)
    return found is not None and found.deleted_at is None


async def turns(master: Master, upkeep: Upkeep, seconds: int) -> None:
    """As they come, for so long."""
    for _ in range(seconds // int(PERIOD)):
        master.clock.now += int(PERIOD)
        await upkeep.turn()


async def test_what_no_write_could_note_is_no_absence(master: Master) -> None:
    job = await a_job(master)
    upkeep, writes = replica(master), NoWrites(master)
    await turns(master, upkeep, 60)
    writes.on = True
    for _ in range(50):
        master.clock.now += int(PERIOD)
        with pytest.raises(OperationalError):
            await upkeep.turn()
    writes.on = False
    await turns(master, upkeep, LIFE)
    assert await is_there(master, job), "its own replica has had no time to note it"
    await turns(master, upkeep, 30)
    assert not await is_there(master, job), "it was away for that long while it could have been noted"


async def test_the_first_turn_may_come_long_after_the_start(master: Master) -> None:
    job = await a_job(master)
    upkeep = replica(master)
    master.clock.now += 2 * LIFE
    await upkeep.turn()
    assert await is_there(master, job)


async def test_long_turns_are_no_gap(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred deletions on a slow disk take their time, and each of them is a write."""
    job = await a_job(master)
    upkeep = replica(master)

    async def slowly(*_: Any) -> None:
        master.clock.now += 2 * GAP

    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "_each", slowly)
        await upkeep.turn()
    await turns(master, upkeep, 60)
    assert upkeep.counts_from == START
    assert not await is_there(master, job)


async def test_while_replicas_differ_the_longest_life_counts(master: Master) -> None:
    """In a rolling restart the old ones note what is connected to them as seldom as the old life allows."""
    await master.realm()
    job = await master.enrol("job", token=await master.token(ephemeral=True))
    shorter = master.context.settings.model_copy(update={"ephemeral_seconds": 60})
    new = Upkeep(
        Context(shorter, master.context.engine, master.context.cas, master.context.clock, master.context.limiter,
                master.context.sealer),
        START,
        announced_at=10**12,
    )  # fmt: skip
    old = replica(master)
    for _ in range(10):
        await turns(master, old, 30)
        await new.turn()
    assert await is_there(master, job)
    await turns(master, new, GAP)
    assert await is_there(master, job)
    await turns(master, new, 30)
    assert not await is_there(master, job), "the old one has been gone for a while"


async def test_a_replica_that_could_not_write_leaves_what_others_noted(master: Master) -> None:
    job = await a_job(master)
    upkeep = replica(master)
    for _ in range(3):
        await turns(master, upkeep, LIFE - 30)
        await touched(master, job)
    assert await is_there(master, job)


# ---- a channel notes its node ----------------------------------------------------------------------------------------


async def presence(master: Master, node: dict[str, Any]) -> _Presence:
    async with read_session(master.context.engine) as session:
        caller = await NodeRepository(session).caller(node["id"])
    assert caller is not None
    return _Presence(master.context, caller)


async def seen(master: Master, node: dict[str, Any]) -> int | None:
    found = await row(master, node)
    return None if found is None else found.last_seen_at


async def test_a_sighting_that_was_not_taken_is_tried_again_and_not_at_every_message(master: Master) -> None:
    job = await a_job(master)
    here, writes = await presence(master, job), NoWrites(master)
    await here.note()
    writes.on = True
    master.clock.now += LIFE // 4
    tried = []
    for _ in range(3 * _TRIED_AGAIN):
        await here.renew()
        tried.append(writes.tried)
        master.clock.now += 1
    assert tried[0] == tried[_TRIED_AGAIN - 1] and tried[_TRIED_AGAIN] == 2 * tried[0] and tried[-1] == 3 * tried[0]
    assert await seen(master, job) == START
    writes.on = False
    await here.renew()
    assert await seen(master, job) == master.clock.now


async def test_all_of_a_batch_hear_that_it_was_not_taken(master: Master) -> None:
    await master.realm()
    token = await master.token(ephemeral=True, usage_limit=None)
    nodes = [await master.enrol(f"job{number}", token=token) for number in range(5)]
    writes, sightings = NoWrites(master), master.context.sightings
    for on in (True, False):
        writes.on = on
        noted = await asyncio.gather(*(sightings.note(node["id"], START + 7) for node in nodes))
        assert noted == [not on] * 5
        assert {await seen(master, node) for node in nodes} == ({None} if on else {START + 7})
    assert writes.tried == 2, "the first alone, then the rest at once"
