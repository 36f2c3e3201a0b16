# SPDX-License-Identifier: Apache-2.0
"""Rules 7, 8, 10, 11, 14, 15, 16 and 17 of the contract; the others are in test_rules.py."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.api.conftest import Identity, Master
from tests.api.contract.test_rules import bearer_of, check_problem, of
from tests.api.contract.world import PREFIX, Sample, World, all_routes, make_world, sample, send, snake
from veilnet.api.db import make_engine, read_session, writing_connection
from veilnet.api.ops.app import create_ops_app
from veilnet.api.ops.metrics import Metrics
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.platform.request_id import current_request_id
from veilnet.api.platform.roles import Grant, Role
from veilnet.api.storage import schema
from veilnet.api.storage.doctor import examine
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.api.times import DAY
from veilnet.api.upkeep.notices import KINDS, announce
from veilnet.api.webhooks.signing import headers as signature_headers

ROOT = Path(__file__).parents[3]
SECRETS = ("token", "credential", "client_secret", "secret")


@pytest.fixture
async def world(master: Master) -> World:
    return await make_world(master)


async def test_rule_7_long_work_is_an_operation(world: World) -> None:
    seen = 0
    for route in of(world):
        if "202" not in route.document["responses"]:
            continue
        seen += 1
        response = await send(world, route, await sample(world, route))
        assert response.status_code == 202, f"{route}: {response.text}"
        found = await world.master.request("GET", f"/operations/{response.json()['id']}")
        assert found["kind"] and found["state"] in {"running", "succeeded"} and found["done"] >= 0, route
    assert seen >= 1
    ended = await world.operation()
    problem = await world.master.request("POST", f"/operations/{ended}/cancel", status=409)
    assert problem["code"] in {"operation-ended", "conflict"}, problem


async def test_rule_7_bulk_has_a_result_for_each_and_a_dry_run(world: World) -> None:
    """Every `:batch` of the app: up to 500 items, what is refused undoes no other, a dry run says the same."""
    seen = 0
    for route in of(world):
        if not route.path.endswith(":batch"):
            continue
        seen += 1
        item = (await sample(world, route)).body["items"][0]
        body = {"items": [item, {**item, "id": "nod_none"}, item]}
        many = await send(world, route, Sample(route.path.removeprefix(PREFIX), {"items": [item] * 501}))
        check_problem(many, 422, route)
        check_problem(await send(world, route, Sample(route.path.removeprefix(PREFIX), {"items": []})), 422, route)
        wanted = Sample(route.path.removeprefix(PREFIX), body, {"dry_run": "true"})
        path = f"/nodes/{item['id']}"
        start, before = (await outbox(world))[-1].id, await world.master.request("GET", path)
        tried = (await send(world, route, wanted)).json()
        assert [one["status"] for one in tried["items"]] == [200, 404, 200] and tried["dry_run"] is True
        assert await world.master.request("GET", path) == before and await outbox(world, start) == []
        done = (await send(world, route, replace(wanted, query={}))).json()
        assert [one["status"] for one in done["items"]] == [200, 404, 200] and done["dry_run"] is False
        assert (done["succeeded"], done["failed"]) == (tried["succeeded"], tried["failed"]) == (2, 1)
        assert done["items"][1]["problem"]["code"] == "not-found" and done["items"][1]["problem"]["trace_id"]
        assert await world.master.request("GET", path) == done["items"][0]["node"] != before
        assert len(await outbox(world, start)) == 1
    assert seen == 1


async def outbox(world: World, after: int = 0) -> list[Any]:
    async with read_session(world.master.context.engine) as session:
        return await OutboxRepository(session).after(after, 100_000)


async def streamed(world: World, after: int | str, **params: str) -> list[dict[str, Any]]:
    headers = {**world.master.admin, "Last-Event-ID": str(after)}
    response = await world.master.client.get(f"{PREFIX}/events", headers=headers, params=params)
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", response.text, re.MULTILINE)]


async def test_rule_8_events_of_every_mutation(world: World) -> None:
    """What a route emits carries its request; what is refused emits nothing; a stream replays all without a gap."""
    speaking = set()
    for route in of(world):
        if not route.writes:
            continue
        good = await sample(world, route)
        start = (await outbox(world))[-1].id
        if route.has_body:
            check_problem(await send(world, route, good, json={**good.body, "no_such_field": 1}), 422, route)
            assert await outbox(world, start) == [], f"{route}: refused, but told"
        response = await send(world, route, good)
        own = [row for row in await outbox(world, start) if row.request_id == response.headers["x-request-id"]]
        assert all(snake(part) for row in own for part in row.type.split(".")), route
        speaking |= {route.operation_id} if own else set()
    assert {"create_realm", "revoke_node", "update_node", "replace_policy", "enrol_node"} <= speaking
    stored = await outbox(world)
    assert all(later.id == earlier.id + 1 for earlier, later in pairwise(stored))
    half = stored[len(stored) // 2].id
    assert [found["id"] for found in await streamed(world, half)] == [row.id for row in stored if row.id > half]
    kind = await streamed(world, 0, types="realm.created")
    assert len(kind) > 1 and {found["type"] for found in kind} == {"realm.created"}


async def test_rule_8_a_position_that_is_gone(world: World) -> None:
    context = world.master.context
    for wrong in ("x", "-1", "1" * 16):
        response = await world.master.client.get(
            f"{PREFIX}/events", headers={**world.master.admin, "Last-Event-ID": wrong}
        )
        check_problem(response, 422, wrong)
    world.master.clock.now += 10
    await world.user()
    async with writing_connection(context.engine) as connection:
        await connection.exec_driver_sql(f"DELETE FROM outbox WHERE created_at < {world.master.clock.now}")  # noqa: S608
    headers = {**world.master.admin, "Last-Event-ID": "1"}
    check_problem(await world.master.client.get(f"{PREFIX}/events", headers=headers), 410, "old position")


async def test_rule_8_webhooks(world: World) -> None:
    names = {route.operation_id for route in of(world)}
    assert {"rotate_webhook_secret", "test_webhook", "replay_webhook"} <= names
    body = {"name": "hook", "url": "https://hooks.example.invalid/"}
    made = await world.master.request("POST", "/webhooks", json=body, status=201)
    rotated = await world.master.request("POST", f"/webhooks/{made['id']}/rotate-secret")
    assert made["secret"] != rotated["secret"]
    for path in ("/webhooks", f"/webhooks/{made['id']}"):
        answer = json.dumps(await world.master.request("GET", path))
        assert made["secret"] not in answer and rotated["secret"] not in answer
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, b"msg_1.1700000000.{}", hashlib.sha256).digest()).decode()
    assert signature_headers("msg_1", 1700000000, b"{}", [key])["webhook-signature"] == f"v1,{expected}"


async def test_rule_10_enrolment_tokens(world: World) -> None:
    master = world.master
    one = await master.token()
    await master.enrol("once", token=one)
    await master.enrol("twice", token=one, status=403)
    late = await master.token(expires_in=60)
    some = await master.token(usage_limit=2, requires_approval=True, auto_taints=["dev"])
    nodes = [await master.enrol(name, token=some) for name in ("first", "second")]
    await master.enrol("third", token=some, status=403)
    for node in nodes:
        found = await master.request("GET", f"/nodes/{node['id']}")
        assert (found["state"], found["taints"]) == ("pending", ["dev"])
    afar = await master.token(allowed_cidrs=["198.51.100.0/24"])
    await master.enrol("near", token=afar, status=403)
    master.clock.now += 61
    await master.enrol("late", token=late, status=403)
    listing = json.dumps(await master.request("GET", "/enrolment-tokens"))
    assert all(token.secret not in listing for token in (one, late, some, afar))
    assert all(token.secret.encode() not in master.database.content() for token in (one, late, some, afar))
    await master.request("POST", f"/enrolment-tokens/{some.id}/revoke", params={"cascade": "disconnect"})
    states = {(await master.request("GET", f"/nodes/{node['id']}"))["state"] for node in nodes}
    assert states == {"revoked"}


async def test_rule_11_renewed_before_two_thirds_and_observable(world: World) -> None:
    """The certificate is a new one when two thirds of its life are over, and every answer says when it ends."""
    master, identity = world.master, Identity()
    life = master.context.settings.certificate_seconds
    node = await master.enrol("lasting", identity=identity)
    ends = (await master.request("GET", f"/nodes/{node['id']}"))["certificate_expires_at"]
    master.clock.now += life * 2 // 3
    fresh = identity.descriptor(serial=2, now=master.clock.now, life=4 * life)
    bearer = {"Authorization": f"Bearer {node['credential']}"}
    await master.request("PUT", "/node/descriptor", json=fresh, headers=bearer)
    await master.request("GET", "/node/snapshot", headers=bearer)
    renewed = (await master.request("GET", f"/nodes/{node['id']}"))["certificate_expires_at"]
    assert renewed > ends
    required = master.app.openapi()["components"]["schemas"]["NodeOut"]["required"]
    assert {"certificate_expires_at", "descriptor_expires_at"} <= set(required)


async def test_rule_11_ends_are_announced_on_the_stream(world: World) -> None:
    """30, 7 and 1 days before, once each, as any other event; tests/api/test_upkeep.py goes through each kind."""
    master, end = world.master, world.master.clock.now + 40 * DAY
    body = {"name": "ends", "grants": [{"role": "readonly"}], "expires_in": 40 * DAY}
    made = await master.request("POST", "/api-tokens", json=body, status=201)
    start = (await outbox(world))[-1].id
    for left in (30, 30, 8, 7, 1, 0):
        master.clock.now = end - left * DAY
        await announce(master.context)
    found = await streamed(world, start, types="api_token.expiring")
    own = [event for event in found if event["subject"] == made["id"]]
    assert [event["data"]["days"] for event in own] == [30, 7, 1]
    documented = set(re.findall(r"`(\w+\.(?:\w+_)?expiring)`", (ROOT / "docs" / "events.md").read_text()))
    assert documented == set(KINDS)


async def test_rule_14_the_document(world: World) -> None:
    document = world.master.app.openapi()
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert document["openapi"].startswith("3.1.")
    assert document["paths"] == committed["paths"] and document["components"] == committed["components"]
    names = [route.operation_id for route in of(world)]
    assert len(set(names)) == len(names)
    for route in of(world):
        assert route.operation_id in _endpoint_names(world), f"{route}: its operationId is not fixed in the code"
        errors = {status for status in route.document["responses"] if status[0] in "45"}
        assert errors, f"{route}: documents no error"


def _endpoint_names(world: World) -> set[str]:
    """Names given by the second argument of a route, which no renamed path or function changes."""
    return {str(getattr(route, "operation_id", None)) for route in all_routes(world.master.app)}


async def test_rule_15_operators_have_a_listener_of_their_own(world: World) -> None:
    context = world.master.context
    own = {getattr(route, "path", "") for route in all_routes(world.master.app)}
    assert not {"/readyz", "/metrics", "/version"} & own
    separate = create_ops_app(context.engine, Metrics(), lambda: False)
    assert {getattr(route, "path", "") for route in separate.routes} == {"/livez", "/readyz", "/metrics", "/version"}


async def test_rule_15_no_secret_in_a_log_or_an_url(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {world.master.admin["Authorization"].partition(" ")[2]}
    for route in of(world):
        named = re.findall(r"{(\w+)}", route.path)
        named += [item["name"] for item in route.document.get("parameters", []) if item["in"] == "query"]
        assert not [name for name in named if name in {*SECRETS, "password", "code", "bearer"}], route
        response = await send(world, route, await sample(world, route))
        told = response.content and response.headers.get("content-type") == "application/json"
        body = response.json() if told else {}
        if isinstance(body, dict):
            secrets |= {body[name] for name in SECRETS if isinstance(body.get(name), str)}
    assert len(secrets) >= 6
    printed = capfd.readouterr()
    written = printed.out + printed.err + caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "/api/v1/enrolment-tokens" in written, "requests were not logged: this test would see no leak"
    assert [secret[:12] for secret in secrets if secret in written] == []


async def test_rule_16_a_page_costs_the_same_whatever_the_fleet(world: World) -> None:
    """Statements of a page do not grow with its rows; the figures are those of `python -m bench master`."""
    bearer = await bearer_of(world, Grant(Role.OWNER))
    lists = [route for route in of(world) if route.is_list]
    goods = {route: await sample(world, route) for route in lists}
    costs = []
    for _ in range(2):
        costs.append({route.operation_id: await _statements(world, bearer, goods[route].path) for route in lists})
        for _ in range(5):
            await world.edge()
            await world.member()
            await world.secret()
            await world.enrolment_token()
            await world.webhook()
    assert len(lists) >= 9 and costs[0] == costs[1] and all(cost >= 1 for cost in costs[0].values())


async def _statements(world: World, bearer: dict[str, str], path: str) -> int:
    """How many a list takes, the second time it is asked for (the first fills caches)."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        assert statement
        seen.append(current_request_id())  # others are the publisher's and the sender's

    await world.master.client.get(PREFIX + path, headers=bearer)
    engine = world.master.context.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        response = await world.master.client.get(PREFIX + path, headers=bearer)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert response.status_code == 200, response.text
    return seen.count(response.headers["x-request-id"])


async def test_rule_17_every_revision_upgrades_with_a_copy_before(tmp_path: Path) -> None:
    """N-1 to N and every skipped version; dumps of lived databases are in test_storage.py."""
    assert (ROOT / "tests" / "api" / "dumps" / f"{schema.revisions()[0]}.sql").is_file()
    for number, revision in enumerate(schema.revisions()[:-1]):
        engine = make_engine(f"sqlite+aiosqlite:///{tmp_path / f'{number}.db'}")
        async with writing_connection(engine) as connection:
            await connection.run_sync(schema.upgrade, revision)
        await bring_up_to_date(engine, tmp_path / f"backups-{number}")
        async with engine.connect() as opened:
            assert await opened.run_sync(schema.current) == schema.head()
        await engine.dispose()
        assert len(list((tmp_path / f"backups-{number}").glob(f"*-{revision}.db"))) == 1


async def test_rule_17_the_doctor_finds_this_master_well(world: World) -> None:
    findings = await examine(world.master.context.settings)
    checks = {finding.check for finding in findings}
    assert {"schema", "tables", "CA key of lab"} <= checks
    assert [finding for finding in findings if not finding.ok] == []
