# SPDX-License-Identifier: Apache-2.0
"""A realm after its creation: patched, renamed, given names, deleted with all that was its own."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from tests.api.conftest import INHERITED, START, Master, node_headers
from tests.api.test_snapshot_route import replica_of
from veilnet.api.db import Base, read_session

DEFAULTS = {**INHERITED, "min_guardians": 2, "rekey_seconds": 120, "idle_seconds": 300}


async def hosts_of(master: Master, enrolled: dict[str, Any], realm: dict[str, Any]) -> list[tuple[str, str]]:
    """As the node itself works them out of what it is sent."""
    body = await master.request("GET", "/node/snapshot", headers=node_headers(enrolled))
    found = replica_of(body, enrolled, realm, START).directory(START).hosts()
    return [(str(address), name) for address, name in found]


# ---- patch -----------------------------------------------------------------------------------------------------------


async def test_a_patch_changes_what_it_names(master: Master) -> None:
    before = await master.realm(settings={"rekey_seconds": 60})
    patched = await master.change("PATCH", "/realms/lab", json={"settings": {"min_guardians": 0}})
    assert patched["settings"] == DEFAULTS | {"min_guardians": 0, "rekey_seconds": 60}
    assert patched["version"] > before["version"]
    renamed = await master.change("PATCH", "/realms/lab", json={"name": "net", "settings": {"rekey_seconds": None}})
    assert (renamed["name"], renamed["id"]) == ("net", before["id"])
    assert renamed["settings"] == DEFAULTS | {"min_guardians": 0}
    await master.request("GET", "/realms/lab", status=404)
    audit = await master.request("GET", "/audit-events", params={"action": "update_realm"})
    assert len(audit["items"]) == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": "Upper"}, "/name"),
        ({"settings": {"min_guardians": 9}}, "/settings/min_guardians"),
        ({"settings": {"typo": 1}}, "/settings/typo"),
        ({"ipv4_range": "10.1.0.0/16"}, "/ipv4_range"),
    ],
)
async def test_a_wrong_patch_changes_nothing(master: Master, body: dict[str, Any], pointer: str) -> None:
    before = await master.realm()
    problem = await master.change("PATCH", "/realms/lab", json=body, status=422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await master.request("GET", "/realms/lab") == before


async def test_a_name_that_is_taken(master: Master) -> None:
    await master.realm()
    await master.realm("other")
    problem = await master.change("PATCH", "/realms/lab", json={"name": "other"}, status=409)
    assert problem["code"] == "name-taken"


# ---- names -----------------------------------------------------------------------------------------------------------


async def test_every_node_has_a_name_from_the_beginning(master: Master) -> None:
    realm = await master.realm()
    one = await master.enrol("one")
    assert await master.request("GET", "/realms/lab/dns") == {"suffix": None, "records": {}}
    assert await hosts_of(master, one, realm) == [
        ("10.90.0.1", "one.lab.internal"),
        (one["ipv6"], "one.lab.internal"),
    ]


async def test_suffix_and_records_reach_the_nodes(master: Master) -> None:
    realm = await master.realm()
    one = await master.enrol("one")
    records = {"db": ["10.90.0.9"], "printer.office": ["192.168.7.4", "fd07::4"], "one": ["192.0.2.1"]}
    body = {"suffix": "net.test", "records": records}
    assert await master.change("PUT", "/realms/lab/dns", json=body) == body
    assert [name for _, name in await hosts_of(master, one, realm)] == [
        *["one.net.test"] * 2,
        "db.net.test",
        *["printer.office.net.test"] * 2,
    ]
    await master.change("PUT", "/realms/lab/dns", json={})
    await master.change("PATCH", "/realms/lab", json={"name": "net"})
    assert {name for _, name in await hosts_of(master, one, realm)} == {"one.net.internal"}


@pytest.mark.parametrize(
    "body",
    [
        {"suffix": "lab internal"},
        {"suffix": "lab.internal\n"},
        {"suffix": "LAB"},
        {"suffix": "a" * 64},
        {"suffix": ""},
        {"suffix": 5},
        {"records": {"db\n127.0.0.1 x": ["10.0.0.1"]}},
        {"records": {"db": []}},
        {"records": {"db": ["10.0.0.1"] * 9}},
        {"records": {"db": ["127.0.0.1"]}},
        {"records": {"db": ["fe80::1"]}},
        {"records": {"db": ["fe80::1%eth0"]}},
        {"records": {"db": ["fd00::1%eth0"]}},
        {"records": {"db": ["::ffff:10.0.0.1"]}},
        {"records": {"db": ["host.example"]}},
        {"records": {f"n{number}": ["10.0.0.1"] for number in range(257)}},
        {"typo": 1},
    ],
)
async def test_hostile_names_are_refused(master: Master, body: dict[str, Any]) -> None:
    await master.realm()
    problem = await master.change("PUT", "/realms/lab/dns", json=body, status=422)
    assert problem["errors"]
    assert await master.request("GET", "/realms/lab/dns") == {"suffix": None, "records": {}}


# ---- delete ----------------------------------------------------------------------------------------------------------


async def rows_of(master: Master, realm_id: str) -> dict[str, int]:
    """By table, how many rows still belong to the realm."""
    found = {}
    async with read_session(master.context.engine) as session:
        for table in Base.metadata.sorted_tables:
            if "realm_id" in table.columns:
                query = select(func.count()).select_from(table).where(table.columns["realm_id"] == realm_id)
                found[table.name] = await session.scalar(query) or 0
    return {name: count for name, count in found.items() if count}


async def test_a_realm_with_nodes_stays(master: Master) -> None:
    before = await master.realm()
    await master.enrol("one")
    problem = await master.change("DELETE", "/realms/lab", status=409)
    assert problem["code"] == "realm-not-empty"
    assert "1 nodes" in problem["detail"]
    assert (await master.request("GET", "/realms/lab"))["id"] == before["id"]


async def test_a_deleted_realm_leaves_its_audit_and_nothing_else(master: Master) -> None:
    realm, other = await master.realm(), await master.realm("other")
    await master.enrol("stays", token=await master.token("other"))
    kept = await rows_of(master, other["id"])
    token = await master.token()
    for name in ("one", "two"):
        await master.enrol(name)
    nodes = (await master.request("GET", "/nodes", params={"realm": "lab"}))["items"]
    await master.request("POST", "/realms/lab/edges", json={"a": nodes[0]["id"], "b": nodes[1]["id"]}, status=201)
    await master.request("POST", "/realms/lab/ca:announce")
    hook = {"name": "hook", "url": "https://hooks.example.invalid/", "realm": "lab"}
    await master.request("POST", "/webhooks", json=hook, status=201)
    grants = [{"role": "readonly", "realm_id": realm["id"]}, {"role": "readonly", "realm_id": other["id"]}]
    bearer = await master.request("POST", "/api-tokens", json={"name": "both", "grants": grants}, status=201)
    for node in nodes:
        await master.request("POST", f"/nodes/{node['id']}:revoke")
    assert len(list(master.context.settings.realms_dir.iterdir())) == 3
    await master.change("DELETE", "/realms/lab", status=204)
    await master.request("GET", "/realms/lab", status=404)
    assert set(await rows_of(master, realm["id"])) <= {"audit_events", "outbox"}
    assert await rows_of(master, other["id"]) == kept
    assert [path.stem for path in master.context.settings.realms_dir.iterdir()] == [other["realm"]]
    found = await master.request("GET", f"/api-tokens/{bearer['id']}")
    assert [grant["realm_id"] for grant in found["grants"]] == [other["id"]]
    await master.enrol("late", token=token, status=401)
    audit = await master.request("GET", "/audit-events", params={"action": "delete_realm"})
    assert audit["items"][0]["subject"] == realm["id"]
    again = await master.realm()
    assert again["realm"] != realm["realm"]
