# SPDX-License-Identifier: Apache-2.0
"""`POST /nodes:batch`: each change by itself, in one transaction; what is refused leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Master, node_headers
from tests.patience import PATIENCE
from veilnet.api.access.service import create_api_token
from veilnet.api.db import read_session, write_session
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.platform.roles import Grant, Role


async def batch(master: Master, *items: dict[str, Any], dry_run: bool = False, **arguments: Any) -> dict[str, Any]:
    params = {"dry_run": "true"} if dry_run else {}
    found: dict[str, Any] = await master.request(
        "POST", "/nodes:batch", json={"items": list(items)}, params=params, **arguments
    )
    return found


async def several(master: Master, count: int, **token: Any) -> list[dict[str, Any]]:
    given = await master.token(usage_limit=None, **token)
    return [await master.enrol(f"n{number}", token=given) for number in range(count)]


async def events(master: Master) -> list[tuple[str, str]]:
    async with read_session(master.context.engine) as session:
        return [(row.type, row.subject) for row in await OutboxRepository(session).after(0, 10_000)]


async def audited(master: Master, subject: str) -> list[dict[str, Any]]:
    page = await master.request("GET", "/audit-events", params={"subject": subject, "action": "batch_nodes"})
    return [entry["changes"] for entry in page["items"]]


async def test_each_kind_of_change_and_one_that_is_refused(master: Master) -> None:
    await master.realm()
    pending = await master.enrol("pending", token=await master.token(requires_approval=True))
    endpoint = await master.enrol("endpoint", token=await master.token(roles=["conflux"]))
    nodes = await several(master, 6)
    ids = [node["id"] for node in nodes]
    items: list[dict[str, Any]] = [
        {"id": pending["id"], "action": "approve"},
        {"id": endpoint["id"], "action": "drain"},
        {"id": ids[0], "action": "drain"},
        {"id": ids[1], "action": "revoke"},
        {"id": ids[2], "action": "delete"},
        {"id": ids[3], "action": "taints", "taints": ["b", "a", "b"]},
        {"id": ids[4], "action": "labels", "labels": {"rack": "7"}},
        {"id": ids[5], "action": "expire"},
        {"id": ids[5], "action": "renew"},
        {"id": ids[2], "action": "drain"},
        {"id": ids[1], "action": "approve"},
    ]
    expected = [200, 409, 200, 200, 204, 200, 200, 200, 200, 404, 409]
    before = await events(master)
    tried = await batch(master, *items, dry_run=True)
    assert [item["status"] for item in tried["items"]] == expected
    assert await events(master) == before, "a dry run tells nobody"
    assert {node["state"] for node in (await master.request("GET", "/nodes"))["items"]} == {"active", "pending"}
    done = await batch(master, *items)
    assert [item["status"] for item in done["items"]] == expected
    assert (done["succeeded"], done["failed"]) == (8, 3)
    assert [item["problem"]["code"] for item in done["items"] if item["problem"]] == [
        "not-a-guardian", "not-found", "node-revoked"]  # fmt: skip
    found = {node["name"]: node for node in (await master.request("GET", "/nodes"))["items"]}
    assert found["pending"]["state"] == "active" and "n2" not in found and found["n1"]["state"] == "revoked"
    assert found["n0"]["draining"] and found["n3"]["taints"] == ["a", "b"] and found["n4"]["labels"] == {"rack": "7"}
    assert found["n5"]["state"] == "active"
    told = (await events(master))[len(before) :]
    assert told == [
        ("node.approved", pending["id"]), ("node.drained", ids[0]), ("node.revoked", ids[1]),
        ("node.revoked", ids[2]), ("node.deleted", ids[2]), ("node.taints_changed", ids[3]),
        ("node.changed", ids[4]), ("node.expired", ids[5]), ("node.renewed", ids[5])]  # fmt: skip
    assert await audited(master, ids[3]) == [{"taints": [[], ["a", "b"]]}]
    assert len(await audited(master, ids[5])) == 2 and await audited(master, endpoint["id"]) == []
    verified = await master.request("POST", "/audit-events/verify", status=202)
    async with asyncio.timeout(PATIENCE):
        while (ended := await master.request("GET", f"/operations/{verified['id']}"))["state"] == "running":
            await asyncio.sleep(0.02)
    assert ended["result"]["first_fault"] is None


async def test_what_an_item_needs_and_what_it_may_not_say(master: Master) -> None:
    await master.realm()
    (node,) = await several(master, 1)
    for wrong in (
        {"action": "taints"},
        {"action": "labels"},
        {"action": "drain", "taints": []},
        {"action": "revoke", "labels": {}},
        {"action": "renew", "expires_at": "2030-01-01T00:00:00Z"},
        {"action": "destroy"},
        {"action": "taints", "taints": ["BAD"]},
    ):
        problem = await batch(master, {"id": node["id"], "action": "drain"}, {"id": node["id"], **wrong}, status=422)
        assert problem["errors"][0]["pointer"].startswith("/items/1"), problem
    assert (await master.request("GET", f"/nodes/{node['id']}"))["draining"] is False


async def test_an_etag_of_an_item_is_compared(master: Master) -> None:
    await master.realm()
    one, two = await several(master, 2)
    tags = [(await master.client.get(f"/api/v1/nodes/{node['id']}", headers=master.admin)).headers["etag"]
            for node in (one, two)]  # fmt: skip
    await master.request("POST", f"/nodes/{two['id']}:drain")
    items = [
        {"id": node["id"], "action": "revoke", "if_match": tag} for node, tag in zip((one, two), tags, strict=True)
    ]
    done = await batch(master, *items)
    assert [item["status"] for item in done["items"]] == [200, 412]


async def test_duplicates_are_one_after_the_other(master: Master) -> None:
    await master.realm()
    (node,) = await several(master, 1)
    step = {"id": node["id"], "action": "drain"}
    done = await batch(master, step, step, {**step, "action": "undrain"}, step)
    assert [item["node"]["draining"] for item in done["items"]] == [True, True, False, True]
    gone = {"id": node["id"], "action": "delete"}
    assert [item["status"] for item in (await batch(master, gone, gone))["items"]] == [204, 404]


async def test_ids_of_another_realm_are_as_if_they_were_not_there(master: Master) -> None:
    await master.realm()
    other = await master.realm("other")
    nodes = await several(master, 2)
    mine = await master.enrol("mine", token=await master.token("other"))
    context = master.context
    bearers = {}
    for role in (Role.OPERATOR, Role.READONLY):
        async with write_session(context.engine, context.hub) as session:
            text = await create_api_token(session, role, master.clock.now, grants=(Grant(role, other["id"]),))
        bearers[role] = {"Authorization": f"Bearer {text}"}
    items = [{"id": node["id"], "action": "delete"} for node in [*nodes, mine]]
    await batch(master, *items, headers=bearers[Role.READONLY], status=403)
    done = await batch(master, *items, headers=bearers[Role.OPERATOR])
    assert [item["status"] for item in done["items"]] == [404, 404, 204]
    assert "n0" not in str(done)
    assert len((await master.request("GET", "/nodes", params={"realm": "lab"}))["items"]) == 2


async def test_a_token_narrowed_to_updates_deletes_nothing(master: Master) -> None:
    await master.realm()
    (node,) = await several(master, 1)
    body = {"name": "narrow", "grants": [{"role": "operator"}], "scopes": ["nodes:read", "nodes:update"]}
    made = await master.request("POST", "/api-tokens", json=body, status=201)
    bearer = {"Authorization": f"Bearer {made['token']}"}
    items = [{"id": node["id"], "action": action} for action in ("delete", "drain")]
    done = await batch(master, *items, headers=bearer)
    assert [item["status"] for item in done["items"]] == [403, 200]


async def test_batches_that_meet_in_opposite_orders_both_end(master: Master) -> None:
    await master.realm()
    nodes = await several(master, 12)
    there = [{"id": node["id"], "action": "drain"} for node in nodes]
    back = [{"id": node["id"], "action": "undrain"} for node in reversed(nodes)]
    single = [master.request("POST", f"/nodes/{node['id']}:drain") for node in nodes[:4]]
    answers = await asyncio.gather(batch(master, *there), batch(master, *back), batch(master, *there), *single)
    assert all(answer["failed"] == 0 for answer in answers[:3])


@pytest.mark.parametrize("action", ["revoke", "delete"])
async def test_five_hundred_at_once(master: Master, action: str) -> None:
    """The largest batch stays one short request: no operation is needed for it."""
    await master.realm(ipv4_range="10.0.0.0/16")
    nodes = await several(master, 60)
    viewer = await master.enrol("viewer", token=await master.token(roles=["conflux"]))
    ids = [node["id"] for node in nodes]
    items = [{"id": ids[number % 60], "action": "drain" if number < 440 else action} for number in range(500)]
    done = await batch(master, *items)
    assert done["succeeded"] == 500
    snapshot = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    assert len(snapshot["records"]) == 1
