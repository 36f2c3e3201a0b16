# SPDX-License-Identifier: Apache-2.0
"""Lifetimes of a realm's own: certificates, the grace after them, the absence that ends an ephemeral node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.api.conftest import INHERITED, START, Identity, Master, node_headers
from tests.api.test_lifecycle import conflux
from tests.api.test_upkeep import announced, turn
from veilnet.api.db import read_session
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.realms import lifetimes as cached
from veilnet.api.snapshots.endpoints import _Presence
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.times import DAY
from veilnet.protocol.documents import CLOCK_SKEW

HOUR = 3600


async def settle(master: Master, **lives: int | None) -> dict[str, Any]:
    """Change some of a realm's settings; all of them as they are then."""
    etag = await etag_of(master, "/realms/lab")
    patch = {"settings": lives}
    found = await master.request("PATCH", "/realms/lab", json=patch, headers={**master.admin, "If-Match": etag})
    settings: dict[str, Any] = found["settings"]
    return settings


async def etag_of(master: Master, path: str) -> str:
    found = await master.client.get(f"/api/v1{path}", headers=master.admin)
    return str(found.headers["etag"])


async def row(master: Master, enrolled: dict[str, Any]) -> Node | None:
    async with read_session(master.context.engine) as session:
        return await NodeRepository(session).by_id(enrolled["id"])


async def ends(master: Master, enrolled: dict[str, Any]) -> int:
    """Seconds from the start to the end of the node's certificate."""
    found = await master.request("GET", f"/nodes/{enrolled['id']}")
    return int(datetime.fromisoformat(found["certificate_expires_at"]).timestamp()) - START


async def sign(master: Master) -> None:
    """What every heartbeat of an open channel does."""
    realm = await master.request("GET", "/realms/lab")
    await master.app.state.feeds.of(realm["id"]).turn(due=True)


async def test_they_are_the_masters_until_a_realm_has_its_own(master: Master) -> None:
    realm = await master.realm()
    assert {name: realm["settings"][name] for name in INHERITED} == INHERITED
    posture = await master.request("GET", "/realms/lab/crypto-posture")
    assert posture["certificate_seconds"] == 7 * DAY
    assert (await settle(master, certificate_seconds=HOUR))["certificate_seconds"] == HOUR
    assert (await master.request("GET", "/realms/lab/crypto-posture"))["certificate_seconds"] == HOUR
    await master.realm("other", settings={"certificate_seconds": 2 * HOUR})
    one, two = await master.enrol("one"), await master.enrol("two", token=await master.token("other"))
    assert (await ends(master, one), await ends(master, two)) == (HOUR, 2 * HOUR)
    assert (await settle(master, certificate_seconds=None))["certificate_seconds"] is None


@pytest.mark.parametrize("wrong", [{"certificate_seconds": 599}, {"grace_seconds": -1}, {"ephemeral_seconds": 59}])
async def test_what_no_fleet_could_keep_is_refused(master: Master, wrong: dict[str, int]) -> None:
    await master.realm()
    headers = {**master.admin, "If-Match": await etag_of(master, "/realms/lab")}
    problem = await master.request("PATCH", "/realms/lab", json={"settings": wrong}, headers=headers, status=422)
    (name,) = wrong
    assert [error["pointer"] for error in problem["errors"]] == [f"/settings/{name}"]


@pytest.mark.parametrize("life", [HOUR, 14 * DAY])
async def test_certificates_follow_another_life_at_the_next_heartbeats(master: Master, life: int) -> None:
    await master.realm()
    one = await conflux(master, "one")
    await sign(master)
    assert await ends(master, one) == 7 * DAY
    await settle(master, certificate_seconds=life)
    await sign(master)
    assert await ends(master, one) == life
    found = await row(master, one)
    assert found is not None and found.certificates_until == START + max(life, 7 * DAY)
    serial = found.certificate_serial
    await sign(master)
    found = await row(master, one)
    assert found is not None and found.certificate_serial == serial, "once, not at every heartbeat"


async def test_a_tombstone_stands_until_the_older_longer_certificate_has_ended(master: Master) -> None:
    """Who has kept it could otherwise show it to those who have forgotten that its node was revoked."""
    await master.realm()
    await settle(master, certificate_seconds=60 * DAY)
    gone = await conflux(master, "gone")
    await settle(master, certificate_seconds=HOUR)
    await sign(master)
    assert await ends(master, gone) == HOUR
    await master.change("DELETE", f"/nodes/{gone['id']}", status=204)
    await sign(master)
    async with read_session(master.context.engine) as session:
        (tombstone,) = (await DirectoryRepository(session).records([gone["id"]])).values()
    assert tombstone.gone and tombstone.renew_at == START + 60 * DAY + CLOCK_SKEW
    for days, kept in ((30, True), (62, True), (70, False)):
        master.clock.now = START + days * DAY
        await turn(master)
        assert (await row(master, gone) is not None) is kept, days


async def test_the_grace_is_the_realms(master: Master) -> None:
    await master.realm()
    one = await conflux(master, "one")
    await settle(master, grace_seconds=DAY)
    master.clock.now = START + 8 * DAY
    assert await announced(master, "node.credential_expiring") == []
    await master.request("GET", "/node/snapshot", headers=node_headers(one))
    master.clock.now += 1
    problem = await master.request("GET", "/node/snapshot", headers=node_headers(one), status=403)
    assert problem["code"] == "certificate-lapsed"
    await settle(master, grace_seconds=20 * DAY)
    await master.request("GET", "/node/snapshot", headers=node_headers(one))
    master.clock.now = START + 21 * DAY
    assert await announced(master, "node.credential_expiring") == [7]


async def test_absence_counts_from_the_change_on_at_the_earliest(master: Master) -> None:
    """A replica where the node is connected has noted it as seldom as the longer life allowed."""
    await master.realm()
    job = await master.enrol("job", token=await master.token(ephemeral=True))
    master.clock.now += 25 * 60
    await settle(master, ephemeral_seconds=60)
    for later, there in ((0, True), (59, True), (60, False)):
        master.clock.now = START + 25 * 60 + later
        await turn(master)
        found = await row(master, job)
        assert found is not None and (found.deleted_at is None) is there, later


async def test_a_channel_notes_its_node_as_often_as_the_realm_asks(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "KNOWN_FOR", 0.0)
    await master.realm()
    job = await master.enrol("job", token=await master.token(ephemeral=True), identity=Identity())
    async with read_session(master.context.engine) as session:
        caller = await NodeRepository(session).caller(job["id"])
    assert caller is not None
    presence = _Presence(master.context, caller)
    await presence.note()
    noted = []
    for life in (None, 60):
        await settle(master, ephemeral_seconds=life)
        master.clock.now += 15
        await presence.renew()
        found = await row(master, job)
        noted.append(found and found.last_seen_at)
    assert noted == [START, START + 30]
