# SPDX-License-Identifier: Apache-2.0
"""A channel that breaks after any of its messages: what the node was told, and what it gets with the next channel,
is all that it must know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Identity, Master
from veilnet.api.db import read_session
from veilnet.api.snapshots.feed import Channel, Feed
from veilnet.api.snapshots.publisher import FORMER_MAX
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.protocol.directory import key_id
from veilnet.protocol.envelope import read_envelope, strict_json

Told = dict[str, int]
"""node → version of the last record told."""
pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Fleet:
    def __init__(self, master: Master) -> None:
        self.master = master
        self.ids: dict[str, str] = {}
        self.rows: dict[str, str] = {}

    async def add(self, *names: str) -> None:
        token = await self.master.token(roles=["conflux"], usage_limit=None)
        for name in names:
            identity = Identity()
            enrolled = await self.master.enrol(name, token=token, identity=identity)
            self.ids[name], self.rows[name] = key_id(identity.key).hex(), enrolled["id"]

    async def wear(self, name: str, *taints: str) -> None:
        await self.master.change("PUT", f"/nodes/{self.rows[name]}/taints", json={"taints": taints}, etag="*")

    async def revoke(self, name: str) -> None:
        await self.master.request("POST", f"/nodes/{self.rows[name]}:revoke")

    def told(self, records: list[str]) -> Told:
        entries = [strict_json(read_envelope(json.loads(text)["entry"]).payload, 1 << 20) for text in records]
        names = {node: name for name, node in self.ids.items()}
        return {names[entry["node"]]: entry["version"] for entry in entries}


@pytest.fixture
async def fleet(master: Master) -> Fleet:
    found = Fleet(master)
    await master.realm()
    await found.add("one", "two", "three")
    return found


def fresh_feed(fleet: Fleet, realm_id: str) -> Feed:
    """Another replica's."""
    return Feed(fleet.master.context, realm_id)


async def opened(fleet: Fleet, feed: Feed, name: str, since: int) -> tuple[int, Told]:
    """(version, records) that a channel of this node begins with."""
    await feed.turn(due=True)
    told: Told = {}
    version = since
    with feed.join(bytes.fromhex(fleet.ids[name]), since) as channel:
        async for reached, _, records in feed.opening(channel):
            version, told = max(version, reached), told | fleet.told(records)
    return version, told


async def realm_of(fleet: Fleet) -> str:
    found: dict[str, Any] = (await fleet.master.request("GET", "/realms"))["items"][0]
    return str(found["id"])


async def test_who_is_gone_is_told_also_to_one_who_sees_others_since_then(fleet: Fleet) -> None:
    feed = fresh_feed(fleet, await realm_of(fleet))
    since, told = await opened(fleet, feed, "one", 0)
    assert told.keys() == {"one", "two", "three"}
    await fleet.revoke("two")
    await fleet.wear("one", "a")
    _, told = await opened(fleet, feed, "one", since)
    assert "two" in told
    _, told = await opened(fleet, feed, "one", 0)
    assert "two" not in told  # who knows nobody needs no tombstones
    await feed.stop()


async def test_a_channel_that_breaks_after_any_message_misses_nothing(fleet: Fleet) -> None:
    await fleet.wear("one", "a")
    for name in ("two", "three"):
        await fleet.wear(name, "b")
    realm_id = await realm_of(fleet)
    feed = fresh_feed(fleet, realm_id)
    since, told = await opened(fleet, feed, "one", 0)
    assert told.keys() == {"one"}
    with feed.join(bytes.fromhex(fleet.ids["one"]), since) as channel:
        await feed.turn()
        await fleet.wear("one", "b")
        await feed.turn()
        messages = taken(channel)
    assert {name for _, records in messages for name in fleet.told(records)} == {"one", "two", "three"}
    for place in range(len(messages) + 1):
        reached = max([since, *(version for version, _ in messages[:place])])
        seen = {name for _, records in messages[:place] for name in fleet.told(records)}
        other = fresh_feed(fleet, realm_id)
        _, told = await opened(fleet, other, "one", reached)
        assert seen | told.keys() == {"one", "two", "three"}, f"broken after {place} of {len(messages)} messages"
        await other.stop()
    await feed.stop()


def taken(channel: Channel) -> list[tuple[int, list[str]]]:
    found = []
    while not channel.queue.empty():
        version, _, records = channel.queue.get_nowait()
        found.append((version, records))
    return found


async def test_who_went_out_of_sight_is_told_as_it_is_now(fleet: Fleet) -> None:
    """Else a node that was away would go on seeing it as it was; who never saw it is not told."""
    for name, taint in (("one", "a"), ("two", "a"), ("three", "b")):
        await fleet.wear(name, taint)
    realm_id = await realm_of(fleet)
    live = fresh_feed(fleet, realm_id)
    since, told = await opened(fleet, live, "one", 0)
    assert told.keys() == {"one", "two"}
    others, _ = await opened(fleet, live, "three", 0)
    await fleet.wear("two", "c")
    await live.turn()
    for feed in (live, fresh_feed(fleet, realm_id)):  # one that saw the change, and one that begins now
        _, told = await opened(fleet, feed, "one", since)
        assert told.keys() == {"two"}
        _, told = await opened(fleet, feed, "three", others)
        assert not told
        _, told = await opened(fleet, feed, "one", 0)
        assert told.keys() == {"one"}
        await feed.stop()


async def test_going_back_and_forth_keeps_no_more_than_the_states(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veilnet.api.snapshots.feed.FORMER_SPARE", 2)
    feed = fresh_feed(fleet, await realm_of(fleet))
    since, _ = await opened(fleet, feed, "two", 0)
    for _ in range(FORMER_MAX):
        for taint in ("a", "b"):
            await fleet.wear("one", taint)
            await feed.turn()
    async with read_session(fleet.master.context.engine) as session:
        known = {item.row_id: item for item in await DirectoryRepository(session).known(await realm_of(fleet))}
    assert [facts["taints"] for _, facts in known[fleet.rows["one"]].former] == [[], ["a"]]
    assert len(feed._former) <= 2 * 3 + 2  # none, a, b; twice as many and the spare
    _, told = await opened(fleet, feed, "two", since)
    assert "one" in told  # it saw it when neither had a taint
    await feed.stop()
