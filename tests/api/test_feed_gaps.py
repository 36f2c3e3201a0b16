# SPDX-License-Identifier: Apache-2.0
"""A channel that breaks after any of its messages: what the node was told, and what it gets with the next channel,
is all that it must know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Identity, Master
from veilnet.api.snapshots.feed import Channel, Feed
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
        await self.master.request("POST", f"/nodes/{self.rows[name]}/revoke")

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
