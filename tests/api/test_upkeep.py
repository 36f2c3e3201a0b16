# SPDX-License-Identifier: Apache-2.0
"""What time alone makes due: ends that are announced, nodes that expire, ephemeral nodes that are away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.api.conftest import START, Identity, Master, make_settings, node_headers
from tests.api.test_lifecycle import conflux, look, names
from tests.api.test_snapshot_route import replica_of
from veilnet.api.clock import WatchedClock
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.times import DAY
from veilnet.api.tls import make_certificate
from veilnet.api.upkeep.notices import announce
from veilnet.api.upkeep.service import Upkeep


async def told(master: Master, kind: str) -> list[dict[str, Any]]:
    """Subject and data of the events of this type, in order."""
    async with read_session(master.context.engine) as session:
        rows = await OutboxRepository(session).after(0, 10_000, types=[kind])
    return [{"subject": row.subject, "realm": row.realm_id, **row.data} for row in rows]


async def announced(master: Master, kind: str) -> list[int]:
    await announce(master.context)
    return [event["days"] for event in await told(master, kind)]


# ---- ends that are announced -----------------------------------------------------------------------------------------


async def test_an_api_token_is_announced_thirty_seven_and_one_days_before_once_each(master: Master) -> None:
    made = await master.request(
        "POST", "/api-tokens", json={"name": "ci", "grants": [{"role": "readonly"}], "expires_in": 40 * DAY}, status=201
    )
    end = START + 40 * DAY
    seen = {}
    for left in (31, 30, 29, 8, 7, 6, 2, 1, 0.5):
        master.clock.now = end - int(left * DAY)
        await announced(master, "api_token.expiring")
        seen[left] = [event["days"] for event in await told(master, "api_token.expiring") if event["name"] == "ci"]
    assert seen == {31: [], 30: [30], 29: [30], 8: [30], 7: [30, 7], 6: [30, 7], 2: [30, 7],
                    1: [30, 7, 1], 0.5: [30, 7, 1]}  # fmt: skip
    (first, *_) = [event for event in await told(master, "api_token.expiring") if event["name"] == "ci"]
    assert (first["subject"], first["ends_at"]) == (made["id"], end)
    master.clock.now = end + 1
    assert len([event for event in await told(master, "api_token.expiring") if event["name"] == "ci"]) == 3


async def test_after_an_absence_the_last_notice_is_given_and_what_is_young_is_not_announced(master: Master) -> None:
    await master.realm()
    body = {"name": "late", "grants": [{"role": "readonly"}], "expires_in": 60 * DAY}
    await master.request("POST", "/api-tokens", json=body, status=201)
    await master.request("POST", "/api-tokens", json={**body, "name": "short", "expires_in": DAY // 2}, status=201)
    await master.token(expires_in=6 * DAY)
    for _ in range(2):
        assert await announced(master, "enrolment_token.expiring") == []
        assert [event for event in await told(master, "api_token.expiring") if event["name"] == "short"] == []
    master.clock.now = START + 60 * DAY - DAY // 2
    await announce(master.context)
    assert [event["days"] for event in await told(master, "api_token.expiring") if event["name"] == "late"] == [1]


async def test_revoked_and_spent_ones_are_not_announced(master: Master) -> None:
    await master.realm()
    body = {"name": "gone", "grants": [{"role": "readonly"}], "expires_in": 60 * DAY}
    made = await master.request("POST", "/api-tokens", json=body, status=201)
    await master.request("POST", f"/api-tokens/{made['id']}/revoke")
    spent, usable = await master.token(expires_in=40 * DAY), await master.token(expires_in=40 * DAY)
    await master.enrol("one", token=spent)
    master.clock.now = START + 40 * DAY - 100
    await announce(master.context)
    assert [event["subject"] for event in await told(master, "enrolment_token.expiring")] == [usable.id]
    assert "gone" not in str(await told(master, "api_token.expiring"))


async def test_a_node_is_announced_when_it_was_not_renewed(master: Master) -> None:
    """A certificate that is renewed in time is never mentioned; one that was not, a day before; then its credential."""
    await master.realm()
    identity = Identity()
    lasting, lost = await master.enrol("lasting", identity=identity), await master.enrol("lost")
    settings = master.context.settings
    end = START + settings.certificate_seconds
    master.clock.now = end - settings.certificate_seconds // 2 + 1
    fresh = identity.descriptor(serial=2, now=master.clock.now, life=20 * DAY)
    await master.request("PUT", "/node/descriptor", json=fresh, headers=node_headers(lasting))
    await master.request("GET", "/node/snapshot", headers=node_headers(lasting))
    assert await announced(master, "node.certificate_expiring") == []
    master.clock.now = end - DAY
    assert await announced(master, "node.certificate_expiring") == [1]
    assert await announced(master, "node.certificate_expiring") == [1]
    (event,) = await told(master, "node.certificate_expiring")
    assert (event["subject"], event["name"], event["ends_at"]) == (lost["id"], "lost", end)
    assert event["realm"] == (await master.request("GET", "/realms/lab"))["id"]
    lapse = end + settings.grace_seconds
    for left in (7, 6, 1, 0):
        master.clock.now = lapse - left * DAY
        await announce(master.context)
    found = [event for event in await told(master, "node.credential_expiring") if event["subject"] == lost["id"]]
    assert [(event["days"], event["ends_at"]) for event in found] == [(7, lapse), (1, lapse)]


async def test_a_moved_end_is_announced_anew(master: Master) -> None:
    await master.realm()
    node = await master.enrol("one")

    async def until(days: int) -> None:
        at = datetime.fromtimestamp(START + days * DAY, UTC).isoformat()
        await master.request("POST", f"/nodes/{node['id']}:expire", json={"expires_at": at})

    await until(10)
    master.clock.now = START + 3 * DAY
    assert await announced(master, "node.expiring") == [7]
    await until(40)
    assert await announced(master, "node.expiring") == [7]
    master.clock.now = START + 33 * DAY
    assert await announced(master, "node.expiring") == [7, 7]


async def test_replicas_that_look_at_once_announce_once(master: Master) -> None:
    body = {"name": "ci", "grants": [{"role": "readonly"}], "expires_in": 40 * DAY}
    await master.request("POST", "/api-tokens", json=body, status=201)
    master.clock.now = START + 10 * DAY
    await asyncio.gather(*(announce(master.context) for _ in range(5)))
    assert [event["days"] for event in await told(master, "api_token.expiring") if event["name"] == "ci"] == [30]


async def test_the_masters_own_certificate_is_announced(master: Master, tmp_path: Path) -> None:
    settings = master.context.settings
    make_certificate(settings.tls_certificate, tmp_path / "other.key", ["127.0.0.1"])
    master.clock.now = int(datetime.now(UTC).timestamp()) + 3650 * DAY - 6 * DAY
    assert await announced(master, "master.certificate_expiring") == [7]
    settings.tls_certificate.write_bytes(b"none")
    await announce(master.context)


# ---- nodes whose time is over ---------------------------------------------------------------------------------------


async def turn(master: Master, started_at: int = START) -> None:
    """By a replica that could write all the time."""
    await Upkeep(master.context, started_at, announced_at=10**12, wrote_at=master.clock.now).turn()


async def test_a_node_expires_when_its_time_has_come(master: Master) -> None:
    realm = await master.realm()
    viewer, node = await conflux(master, "viewer"), await conflux(master, "leaving")
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    replica = replica_of(body, viewer, realm, START)
    at = datetime.fromtimestamp(START + 100, UTC).isoformat()
    await master.request("POST", f"/nodes/{node['id']}:expire", json={"expires_at": at})
    await turn(master)
    assert (await master.request("GET", f"/nodes/{node['id']}"))["state"] == "active"
    master.clock.now = START + 100
    await turn(master)
    await turn(master)
    assert (await master.request("GET", f"/nodes/{node['id']}"))["state"] == "expired"
    assert names(await look(master, viewer, realm, replica)) == {"viewer"}
    assert len(await told(master, "node.expired")) == 1
    audit = await master.request("GET", "/audit-events", params={"subject": node["id"], "action": "expire_due_node"})
    assert [(entry["actor_kind"], entry["changes"]["state"]) for entry in audit["items"]] == [
        ("master", ["active", "expired"])
    ]


async def touched(master: Master, node: dict[str, Any]) -> None:
    async with write_session(master.context.engine, master.context.hub) as session:
        await NodeRepository(session).touch({node["id"]: master.clock.now})


async def test_an_ephemeral_node_that_is_away_is_deleted_and_its_address_free(master: Master) -> None:
    realm = await master.realm()
    viewer = await conflux(master, "viewer")
    identity = Identity()
    token = await master.token(ephemeral=True, roles=["conflux"], usage_limit=None)
    node = await master.enrol("job", token=token, identity=identity)
    staying = await master.enrol("staying", token=token)
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    replica = replica_of(body, viewer, realm, START)
    limit = master.context.settings.ephemeral_seconds
    master.clock.now = START + limit - 1
    await turn(master)
    assert (await master.request("GET", f"/nodes/{node['id']}"))["ephemeral"] is True
    await touched(master, staying)
    master.clock.now = START + limit
    await turn(master, started_at=master.clock.now - 5)
    await master.request("GET", f"/nodes/{node['id']}")  # nobody was seen while there was no Master
    await turn(master)
    await master.request("GET", f"/nodes/{node['id']}", status=404)
    for stays in (viewer, staying):
        await master.request("GET", f"/nodes/{stays['id']}")
    assert names(await look(master, viewer, realm, replica)) == {"viewer", "staying"}
    assert [event["name"] for event in await told(master, "node.deleted")] == ["job"]
    problem = await master.request("GET", "/node/snapshot", headers=node_headers(node), status=403)
    assert problem["code"] == "node-revoked" and "enrol" in problem["detail"]
    taken = await conflux(master, "another")
    assert taken["ipv4"] != node["ipv4"]
    back = await master.enrol("job", token=token, identity=identity)
    assert back["ipv4"] == node["ipv4"]
    assert "job" in names(await look(master, viewer, realm, replica))


async def test_an_ephemeral_node_that_comes_back_at_that_moment_stays_or_goes_whole(master: Master) -> None:
    """It is in use and in every list, or deleted and refused; and its name is never taken by nobody."""
    await master.realm()
    token = await master.token(ephemeral=True, usage_limit=None)
    for number in range(5):
        identity = Identity()
        node = await master.enrol(f"job{number}", token=token, identity=identity)
        master.clock.now += master.context.settings.ephemeral_seconds
        back = master.enrol(f"job{number}", token=token, identity=identity)
        first = (back, turn(master), touched(master, node)) if number % 2 else (turn(master), back)
        await asyncio.gather(*first)
        found = await master.request("GET", "/nodes", params={"q": f"job{number}"})
        for item in found["items"]:
            assert item["state"] == "active"
        again = await master.enrol(f"job{number}", token=token, identity=identity)
        await master.request("GET", "/node/snapshot", headers=node_headers(again))


async def test_connected_nodes_are_not_away(master: Master) -> None:
    await master.realm()
    node = await master.enrol("job", token=await master.token(ephemeral=True))
    master.clock.now += 2 * master.context.settings.ephemeral_seconds
    with master.context.hub.online(node["id"]):
        await turn(master)
    await master.request("GET", f"/nodes/{node['id']}")


async def test_rows_of_deleted_nodes_go_when_nothing_of_them_can_count(master: Master) -> None:
    await master.realm()
    viewer, node = await conflux(master, "viewer"), await conflux(master, "leaving")
    await master.request("POST", "/realms/lab/edges", json={"a": "viewer", "b": "leaving"}, status=201)
    await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    await master.change("DELETE", f"/nodes/{node['id']}", status=204)
    await master.request("GET", "/node/snapshot", headers=node_headers(viewer))

    async def row() -> object | None:
        async with read_session(master.context.engine) as session:
            return await NodeRepository(session).by_id(node["id"])

    master.clock.now += master.context.settings.certificate_seconds
    await turn(master)
    assert await row() is not None
    master.clock.now += 9 * DAY
    await turn(master)
    assert await row() is None
    audit = await master.request("GET", "/audit-events", params={"subject": node["id"]})
    assert [entry["action"] for entry in audit["items"]] == ["enrol_node", "delete_node"]


async def test_with_a_clock_that_jumped_nothing_is_done(tmp_path: Path, master: Master) -> None:
    await master.realm()
    node = await master.enrol("job", token=await master.token(ephemeral=True))
    ahead = [0.0]
    clock = WatchedClock(wall=lambda: START + ahead[0], monotonic=lambda: 0.0)
    context = Context(make_settings(tmp_path), master.context.engine, master.context.cas, clock,
                      master.context.limiter, master.context.sealer)  # fmt: skip
    ahead[0] = 86400.0
    await Upkeep(context, START).turn()
    await master.request("GET", f"/nodes/{node['id']}")


async def test_what_is_looked_for_again_and_again_is_found_by_index(master: Master) -> None:
    """A node's row has 20 KB; reading all of them twice a minute would be the dearest thing that a Master does."""
    engine = master.context.engine
    if engine.dialect.name != "sqlite":
        return  # Postgres chooses by what stands in the tables: here, nothing
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT") and "nodes" in statement:
            asked.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    master.clock.now += DAY
    await Upkeep(master.context, START).turn()
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    assert len(asked) >= 6
    async with engine.connect() as connection:
        for statement, parameters in asked:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans = [row[-1] for row in rows if "nodes" in row[-1]]
            assert plans and all("USING" in plan for plan in plans), (statement, plans)


@pytest.mark.parametrize("seconds", [59, 0])
def test_a_shorter_absence_than_a_minute_is_refused(tmp_path: Path, seconds: int) -> None:
    with pytest.raises(ValueError, match="ephemeral_seconds"):
        make_settings(tmp_path).model_validate({**make_settings(tmp_path).model_dump(), "ephemeral_seconds": seconds})
