# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import base64
import json
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.api.conftest import START, Identity, Master, node_headers
from veilnet.api.db import read_session, write_session
from veilnet.api.nodes import descriptors
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.snapshots.models import DirectoryChange


async def test_nodes_are_listed_without_anything_to_impersonate_them(master: Master) -> None:
    await master.realm()
    enrolled = await master.enrol("one")
    page = await master.request("GET", "/nodes", params={"realm": "lab"})
    (node,) = page["items"]
    assert node["name"] == "one"
    assert (node["state"], node["connected"], node["last_seen_at"]) == ("active", False, None)
    assert enrolled["credential"] not in str(page)
    assert await master.request("GET", f"/nodes/{node['id']}") == node
    await master.request("GET", "/nodes/nod_x", status=404)


async def test_revoking_twice_is_the_same_as_once(master: Master) -> None:
    await master.realm()
    enrolled = await master.enrol("one")
    first = await master.request("POST", f"/nodes/{enrolled['id']}:revoke")
    version = (await master.request("GET", "/realms/lab"))["version"]
    master.clock.now += 5
    assert await master.request("POST", f"/nodes/{enrolled['id']}:revoke") == first
    assert (await master.request("GET", "/realms/lab"))["version"] == version
    await master.request("POST", "/nodes/nod_x:revoke", status=404)


async def test_descriptor_replaces_an_older_one(master: Master) -> None:
    await master.realm()
    identity = Identity()
    headers = node_headers(await master.enrol("one", identity=identity))
    version = (await master.request("GET", "/realms/lab"))["version"]
    moved = identity.descriptor(serial=2, endpoints=((IPv4Address("198.51.100.4"), 99),))
    answer = await master.request("PUT", "/node/descriptor", json=moved, headers=headers)
    assert answer["serial"] == 2
    assert await master.request("PUT", "/node/descriptor", json=moved, headers=headers) == answer
    await master.request("GET", "/node/snapshot", headers=headers)  # what waits is signed now
    assert (await master.request("GET", "/realms/lab"))["version"] > version
    stale = identity.descriptor(serial=2)
    problem = await master.request("PUT", "/node/descriptor", json=stale, headers=headers, status=409)
    assert problem["code"] == "descriptor-stale"


async def test_descriptor_of_somebody_else_is_refused(master: Master) -> None:
    await master.realm()
    headers = node_headers(await master.enrol("one"))
    wrong = [Identity().descriptor(serial=2)]
    identity = Identity()
    other = node_headers(await master.enrol("two", identity=identity))
    wrong.append({**identity.descriptor(serial=2), "sig": identity.descriptor(serial=3)["sig"]})
    for body, who in zip(wrong, (headers, other), strict=True):
        problem = await master.request("PUT", "/node/descriptor", json=body, headers=who, status=422)
        assert problem["code"] == "signature-invalid"
    expired = identity.descriptor(serial=2, now=START - 100, life=100)
    await master.request("PUT", "/node/descriptor", json=expired, headers=other, status=422)


async def test_a_pending_node_is_unknown_to_others_until_it_is_approved(master: Master) -> None:
    await master.realm()
    first = await master.enrol("one")
    token = await master.token(requires_approval=True, auto_taints=["guest"])
    waiting = await master.enrol("two", token=token)
    node = await master.request("GET", f"/nodes/{waiting['id']}")
    assert (node["state"], node["approved_at"], node["taints"]) == ("pending", None, ["guest"])
    for headers in (node_headers(first), node_headers(waiting)):
        snapshot = await master.request("GET", "/node/snapshot", headers=headers)
        assert waiting["node_id"] not in json.dumps([open_record(item) for item in snapshot["records"]])
    listed = await master.request("GET", "/nodes", params={"state": "pending", "taint": "guest"})
    assert [item["name"] for item in listed["items"]] == ["two"]
    approved = await master.request("POST", f"/nodes/{waiting['id']}:approve")
    assert approved["state"] == "active"
    snapshot = await master.request("GET", "/node/snapshot", headers=node_headers(waiting))
    assert waiting["node_id"] in json.dumps([open_record(item) for item in snapshot["records"]])
    await master.request("POST", f"/nodes/{waiting['id']}:revoke")
    problem = await master.request("POST", f"/nodes/{waiting['id']}:approve", status=409)
    assert problem["code"] == "node-revoked"


def open_record(record: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(record["entry"]["payload"]))


async def test_labels_are_merged_and_a_null_takes_one_away(master: Master) -> None:
    await master.realm()
    path = f"/nodes/{(await master.enrol('one'))['id']}"
    await master.change("PATCH", path, json={"labels": {"rack": "7", "site": "x"}})
    changed = await master.change("PATCH", path, json={"labels": {"rack": None, "row": "b"}})
    assert changed["labels"] == {"site": "x", "row": "b"}
    await master.change("PATCH", path, json={"labels": {"BAD KEY": "x"}}, status=422)


async def test_a_node_that_connects_or_is_labelled_changes_nothing_for_others(master: Master) -> None:
    """An administrator's If-Match still fits after a node came and went; neither that nor labels are signed anew."""
    await master.realm()
    path = f"/nodes/{(await master.enrol('one'))['id']}"
    etag = (await master.client.get(f"/api/v1{path}", headers=master.admin)).headers["etag"]

    async def waiting() -> int:
        async with read_session(master.context.engine) as session:
            return len(list(await session.scalars(select(DirectoryChange))))

    before = await waiting()
    async with write_session(master.context.engine, master.context.hub) as session:
        await NodeRepository(session).touch({path.rpartition("/")[2]: master.clock.now})
    assert (await master.request("GET", path))["last_seen_at"] is not None
    labelled = await master.change("PATCH", path, etag=etag, json={"labels": {"rack": "r7"}})
    assert labelled["labels"] == {"rack": "r7"}
    assert await waiting() == before


async def test_descriptors_that_come_at_once_are_written_together(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    await master.realm()
    identities = [Identity() for _ in range(12)]
    bearers = [node_headers(await master.enrol(f"n{place}", identity=one)) for place, one in enumerate(identities)]
    groups: list[int] = []
    store = descriptors._store

    async def counted(session: AsyncSession, group: list[Any]) -> dict[int, Exception]:
        groups.append(len(group))
        return await store(session, group)

    monkeypatch.setattr(descriptors, "_store", counted)
    bodies = [identity.descriptor(serial=2) for identity in identities]
    calls = [
        *zip(bodies, bearers, strict=True),
        (bodies[0], bearers[0]),
        (identities[1].descriptor(serial=1), bearers[1]),
    ]
    answers = await asyncio.gather(*(
        master.client.put("/api/v1/node/descriptor", json=body, headers=headers) for body, headers in calls
    ))  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * 13 + [409]
    assert sum(groups) >= 12 and len(groups) < 8
    async with read_session(master.context.engine) as session:
        rows = await NodeRepository(session).every()
    assert [row.descriptor_serial for row in rows] == [2] * 12
    assert {row.name: row.descriptor for row in rows} == {f"n{place}": body for place, body in enumerate(bodies)}


async def test_a_group_that_fails_fails_for_all_and_the_next_one_does_not(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    await master.realm()
    identity = Identity()
    headers = node_headers(await master.enrol("one", identity=identity))

    async def broken(*_: Any) -> dict[int, Exception]:
        raise OSError("disk")

    body = identity.descriptor(serial=2)
    with monkeypatch.context() as patch:
        patch.setattr(descriptors, "_store", broken)
        await master.request("PUT", "/node/descriptor", json=body, headers=headers, status=503)
    assert (await master.request("PUT", "/node/descriptor", json=body, headers=headers))["serial"] == 2
