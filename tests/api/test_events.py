# SPDX-License-Identifier: Apache-2.0
"""The event stream: order, resumption without gap or duplicate, filters, what a caller may see, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.conftest import Master
from tests.patience import PATIENCE
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import write_session
from veilnet.api.errors import Gone, Unauthorized
from veilnet.api.events import service
from veilnet.api.events.service import Filter
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.outbox.service import emit


@pytest.fixture(autouse=True)
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they last."""
    monkeypatch.setattr(service, "LIFETIME_SECONDS", 60.0)


async def allowed() -> None:
    pass


def events_of(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line.partition("data: ")[2]) for line in lines if line.startswith("id:")]


async def read(stream: AsyncIterator[str], count: int) -> list[dict[str, Any]]:
    """The next `count` events of a stream."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while len(events_of(found)) < count:
            found.append(await anext(stream))
    return events_of(found)


async def say(master: Master, *kinds: str, realm_id: str | None = None) -> None:
    async with write_session(master.context.engine, master.context.hub) as session:
        for kind in kinds:
            emit(session, kind, realm_id, "sub", {"n": 1, "secret": "confidential"}, master.clock.now)


async def test_events_come_in_order_as_they_happen(master: Master) -> None:
    stream = service.follow(master.context, 0, Filter(None), allowed)
    await say(master, "a.one", "a.two")
    waiting = asyncio.create_task(read(stream, 3))
    await asyncio.sleep(0.05)
    await say(master, "a.three")
    found = await waiting
    assert [event["type"] for event in found] == ["a.one", "a.two", "a.three"]
    assert [event["id"] for event in found] == [1, 2, 3]
    assert "confidential" not in str(found)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_going_on_misses_nothing_and_repeats_nothing(master: Master) -> None:
    await say(master, *[f"a.e{number}" for number in range(service.PAGE + 50)])
    position = 0
    seen: list[dict[str, Any]] = []
    while len(seen) < service.PAGE + 50:
        stream = service.follow(master.context, position, Filter(None), allowed)
        seen += await read(stream, 30 if len(seen) < service.PAGE else 20)
        await stream.aclose()  # type: ignore[attr-defined]
        position = seen[-1]["id"]
    assert [event["id"] for event in seen] == list(range(1, service.PAGE + 51))


async def test_filters_by_type_and_realm(master: Master) -> None:
    one, two = await master.realm("one"), await master.realm("two")
    await say(master, "x.one", realm_id=one["id"])
    await say(master, "x.two", realm_id=two["id"])
    await say(master, "x.none")
    only = Filter(frozenset({two["id"]}), ("x.one", "x.two", "x.none"))
    stream = service.follow(master.context, 0, only, allowed)
    assert [event["type"] for event in await read(stream, 1)] == ["x.two"]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_where_a_reader_may_start(master: Master) -> None:
    assert await service.start_of(master.context, None) == 0
    await say(master, *["a.b"] * 10)
    assert await service.start_of(master.context, None) == 10
    assert await service.start_of(master.context, 0) == 0
    async with write_session(master.context.engine, master.context.hub) as session:
        for row in await OutboxRepository(session).after(0, 5):
            await session.delete(row)
    assert await service.start_of(master.context, 5) == 5
    for lost in (4, 11):
        await master.request("GET", "/events", headers={**master.admin, "Last-Event-ID": str(lost)}, status=410)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "٣", "9" * 16])
async def test_positions_that_are_none(master: Master, text: str) -> None:
    headers = {**master.admin, "Last-Event-ID": text.encode()}
    problem = await master.request("GET", "/events", headers=headers, status=422)
    assert problem["code"] == "invalid"


async def test_a_stream_ends_with_its_credential_and_beats_until_then(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HEARTBEAT_SECONDS", 0.05)
    left = [2]

    async def twice() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Unauthorized("unauthorized", "revoked")

    lines = [line async for line in service.follow(master.context, 0, Filter(None), twice)]
    assert lines == [f"retry: {service.RETRY_MS}\nid: 0\n\n", *[": heartbeat\nid: 0\n\n"] * 2]


async def test_what_is_not_committed_is_not_told(master: Master) -> None:
    async def fails() -> None:
        async with write_session(master.context.engine, master.context.hub) as session:
            emit(session, "a.lost", None, "sub", {}, master.clock.now)
            await session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    await say(master, "a.kept")
    stream = service.follow(master.context, 0, Filter(None), allowed)
    assert [(event["id"], event["type"]) for event in await read(stream, 1)] == [(1, "a.kept")]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_filter_that_lets_nothing_through_still_tells_how_far_it_is(master: Master) -> None:
    await say(master, *["a.b"] * 5)
    async with write_session(master.context.engine, master.context.hub) as session:
        await OutboxRepository(session).forget(master.clock.now + 1, 100)
    await say(master, "a.b")
    assert await service.start_of(master.context, 5) == 5
    stream = service.follow(master.context, 5, Filter(None, ("a.none",)), allowed)
    await anext(stream)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(service, "HEARTBEAT_SECONDS", 0.01)
        assert await anext(stream) == ": heartbeat\nid: 6\n\n"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_reader_of_events_that_a_restored_database_does_not_have(master: Master) -> None:
    await say(master, *["a.b"] * 3)
    async with write_session(master.context.engine, master.context.hub) as session:
        await CounterRepository(session).raise_to("outbox", 1000)
    await say(master, "a.b")
    assert await service.start_of(master.context, 3) == 3  # what both have had
    for lost in (4, 999, 1002):
        with pytest.raises(Gone):
            await service.start_of(master.context, lost)
