# SPDX-License-Identifier: Apache-2.0
"""The rules of docs/api.md over every route of the app: none can escape, as each test reads the routes from it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from tests.api.conftest import Master, make_settings
from tests.api.contract.world import (
    LATE_STATES,
    PREFIX,
    Route,
    World,
    all_routes,
    credentials,
    make_world,
    routes,
    sample,
    send,
    snake,
)
from veilnet.api.access.service import create_api_token
from veilnet.api.app import create_app
from veilnet.api.db import write_session
from veilnet.api.errors import TITLES
from veilnet.api.platform.rate_limit import Rate, RateSettings
from veilnet.api.platform.roles import ALLOWED, Grant, Resource, Role
from veilnet.api.platform.routing import PlatformRoute

TODAY = datetime.now(UTC).date()
NOT_API = {"/oauth2/token", "/.well-known/oauth-authorization-server", "/livez", "/openapi.json", "/node/channel"}


@pytest.fixture
async def world(master: Master) -> World:
    return await make_world(master)


def of(world: World) -> list[Route]:
    return routes(world.master.app)


def check_problem(response: httpx.Response, status: int, what: object) -> dict[str, Any]:
    assert response.status_code == status, f"{what}: {response.status_code} {response.text}"
    assert response.headers["content-type"] == "application/problem+json", what
    problem: dict[str, Any] = response.json()
    assert problem.keys() == {"type", "title", "status", "code", "detail", "errors", "trace_id"}, what
    assert problem["status"] == status and problem["title"] == TITLES[problem["code"]], what
    assert problem["trace_id"] == response.headers["x-request-id"], what
    assert "Traceback" not in response.text
    return problem


async def test_every_route_passes_the_platform(world: World) -> None:
    paths = [route for route in all_routes(world.master.app) if getattr(route, "path", "") not in NOT_API]
    strangers = [route for route in paths if not isinstance(route, PlatformRoute)]
    assert strangers == []
    assert len(of(world)) >= 60


async def test_every_route_has_a_sample_that_succeeds(world: World) -> None:
    for route in of(world):
        response = await send(world, route, await sample(world, route))
        wanted = {409} if route.operation_id in LATE_STATES else {200, 201, 202, 204}
        assert response.status_code in wanted, f"{route}: {response.text}"


async def test_rule_1_names_ids_and_unknown_fields(world: World) -> None:
    document = world.master.app.openapi()
    operation_ids = [route.operation_id for route in of(world)]
    assert len(set(operation_ids)) == len(operation_ids) and all(snake(name) for name in operation_ids)
    for name, schema in document["components"]["schemas"].items():
        wrong = [field for field in schema.get("properties", {}) if not snake(field)]
        assert wrong == [], name
    for route in of(world):
        if route.has_body:
            good = await sample(world, route)
            response = await send(world, route, good, json={**good.body, "no_such_field": 1})
            problem = check_problem(response, 422, route)
            assert "/no_such_field" in [error["pointer"] for error in problem["errors"]], route


async def test_rule_2_lists(world: World) -> None:
    cursors = {}
    for route in of(world):
        if not route.is_list:
            continue
        good = await sample(world, route)
        for query, code in (({"limit": "0"}, "invalid"), ({"limit": "501"}, "invalid"),
                            ({"cursor": "x"}, "cursor-invalid"), ({"cursor": "é"}, "cursor-invalid"),
                            ({"nonsense": "1"}, "unknown-parameter"), ({"fields": "nonsense"}, "invalid")):  # fmt: skip
            problem = check_problem(await send(world, route, good, params={**good.query, **query}), 422, route)
            assert problem["code"] == code, route
        for _ in range(2):  # so that each list has more than one page
            await fill(world, good.path)
        page = await send(world, route, good, params={**good.query, "limit": "1", "fields": "id"})
        assert list(page.json()["items"][0]) == ["id"], route
        cursors[route] = good, page.json()["next_cursor"]
        assert f"cursor={page.json()['next_cursor']}" in page.headers["link"] and 'rel="next"' in page.headers["link"]
    assert len(cursors) >= 9
    for route, (good, _) in cursors.items():
        other = next(cursor for other, (_, cursor) in cursors.items() if other != route)
        problem = check_problem(await send(world, route, good, params={**good.query, "cursor": other}), 422, route)
        assert problem["code"] == "cursor-invalid", route


STREAMS = {"export_audit_events", "follow_events"}
"""Answers without an end or too long for memory: no ETag, no problem where there is nothing to tell."""


async def fill(world: World, path: str) -> None:
    makers = {"/realms": world.new_realm, "/nodes": world.node, "/enrolment-tokens": world.enrolment_token,
              "/guardians": world.node, "/users": world.user, "/groups": world.group, "/api-tokens": world.api_token,
              "/whoami/tokens": world.api_token, "/identity-providers": world.provider,
              "/operations": world.operation, "/audit-events": world.user, "/realms/lab/edges": world.edge,
              "/realms/lab/crypto-posture/nodes": world.node,
              "/webhooks": world.webhook, "/advertised-networks": world.advertised_network}  # fmt: skip
    if path in makers:
        await makers[path]()
    elif path.endswith("/secrets"):
        await world.made(path)
    elif path.endswith("/members"):
        await world.made(path, user_id=await world.user())
    else:
        await world.made(path, name=world.name())


async def test_rule_3_problems_everywhere(world: World) -> None:
    for route in of(world):
        good = await sample(world, route)
        check_problem(await send(world, route, good, params={**good.query, "nonsense": "1"}), 422, route)
        if route.has_body:
            kind = {"Content-Type": "application/json"}
            for body in (b"{", b"[" * 5000, b'{"a": NaN}', b'{"a": "\\u0000"}', b"\xff"):
                check_problem(await send(world, route, good, kind, json=None, content=body), 400, route)
            check_problem(await send(world, route, good, json=None, content=b"a=b"), 415, route)
            check_problem(await send(world, route, good, kind, json=None, content=b"[]"), 422, route)
        if "{" in route.path:
            at, part = next(
                (place, part) for place, part in enumerate(route.path.removeprefix(PREFIX).split("/")) if "{" in part
            )
            named = good.path.split("/")[at].removesuffix(part.rpartition("}")[2])
            path = PREFIX + good.path.replace(named, "%00", 1)
            answer = await world.master.client.request(
                route.method, path, headers={**credentials(world, route), "If-Match": "*"}, json=good.body,
                params=good.query)  # fmt: skip
            check_problem(answer, 400, route)
    response = await world.master.client.request("PROPFIND", "/api/v1/realms", headers=world.master.admin)
    check_problem(response, 405, "PROPFIND")


async def test_rule_4_etags(world: World) -> None:
    seen = 0
    for route in of(world):
        good = await sample(world, route)
        if route.conditional:
            seen += 1
            bare = credentials(world, route)
            response = await world.master.client.request(route.method, PREFIX + good.path, headers=bare, json=good.body)
            assert check_problem(response, 428, route)["code"] == "precondition-required"
            for stale in ('"999999.x"', 'W/"1.x"', "1", '""'):
                problem = check_problem(await send(world, route, good, {"If-Match": stale}), 412, route)
                assert problem["code"] == "precondition-failed"
            assert (await send(world, route, good)).status_code in {200, 204}, route
        elif route.method == "GET" and route.operation_id not in STREAMS:
            first = await send(world, route, good)
            tag = first.headers["etag"]
            assert tag.startswith('"') and tag.endswith('"'), route
            again = await send(world, route, good, {"If-None-Match": f'"other", {tag}'})
            assert (again.status_code, again.content) == (304, b""), route
    assert seen >= 13


async def test_rule_5_deleting_twice_and_patching_null(world: World) -> None:
    for route in of(world):
        if route.method == "DELETE":
            good = await sample(world, route)
            assert (await send(world, route, good)).status_code == 204, route
            check_problem(await send(world, route, good), 404, route)
        if route.method == "PATCH":
            good = await sample(world, route)
            kind = {"Content-Type": "application/merge-patch+json"}
            response = await send(world, route, good, kind, json=None, content=json.dumps(good.body).encode())
            assert response.status_code == 200, f"{route}: {response.text}"
            name, value = next(iter(good.body.items()))
            assert response.json()[name] == value, route


async def test_rule_6_idempotency_keys(world: World) -> None:
    seen = 0
    for route in of(world):
        if route.method != "POST" or route.operation_id in LATE_STATES:
            continue
        seen += 1
        good, key = await sample(world, route), {"Idempotency-Key": world.name()}
        first = await send(world, route, good, key)
        assert first.status_code in {200, 201, 202}, f"{route}: {first.text}"
        count = await audited(world)
        again = await send(world, route, good, key)
        assert (again.status_code, again.content) == (first.status_code, first.content), route
        assert again.headers["idempotency-replayed"] == "true", route
        assert await audited(world) == count, route
        if route.has_body:
            other = await send(world, route, good, key, json={**good.body, "other": 1})
            assert check_problem(other, 422, route)["code"] == "idempotency-key-reused"
    assert seen >= 15


async def audited(world: World) -> int:
    from veilnet.api.audit.repository import AuditRepository  # noqa: PLC0415
    from veilnet.api.db import read_session  # noqa: PLC0415

    async with read_session(world.master.context.engine) as session:
        last = await AuditRepository(session).last()
    return 0 if last is None else last.seq


async def bearer_of(world: World, *grants: Grant) -> dict[str, str]:
    context = world.master.context
    async with write_session(context.engine, context.hub) as session:
        text = await create_api_token(session, "matrix", world.master.clock.now, grants=grants)
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("role", list(Role))
async def test_rule_9_roles(world: World, role: Role) -> None:
    """Refused with 403 exactly where the table does not allow it."""
    bearer = await bearer_of(world, Grant(role))
    for route in of(world):
        if route.rule.resource is None or route.rule.verb is None:
            continue
        allowed = (role, route.rule.resource, route.rule.verb) in ALLOWED
        good = await sample(world, route)
        if allowed and route.method == "GET":
            assert (await send(world, route, good, bearer)).status_code == 200, route
        elif allowed:
            response = await send(world, route, good, bearer)
            assert response.status_code < 300 or response.json()["code"] != "unauthorized", route
            needed = f"needs the scope {route.rule.scope}"
            assert needed not in response.text, route
        else:
            assert route.rule.scope in check_problem(await send(world, route, good, bearer), 403, route)["detail"]


async def test_rule_9_every_wrong_credential(world: World) -> None:
    expired = await bearer_of(world, Grant(Role.OWNER))
    foreign_node = world.node_bearer
    world.master.clock.now += 366 * 86400
    fresh = await bearer_of(world, Grant(Role.OWNER))
    world.master.admin = fresh
    for route in of(world):
        if route.rule.who == "anybody":
            continue
        foreign = fresh if route.rule.who == "node" else foreign_node
        wrong = {"Authorization": foreign["Authorization"][:-1] + "!"}
        for headers in ({}, foreign, wrong, expired, {"Authorization": "Basic YTpi"}):
            url = PREFIX + _any_path(route)
            response = await world.master.client.request(route.method, url, headers=headers, content=b"{")
            assert response.headers["www-authenticate"] == "Bearer"
            assert check_problem(response, 401, route)["code"] == "unauthorized"


def _any_path(route: Route) -> str:
    return re.sub(r"{\w+}", "x", route.path.removeprefix(PREFIX))


async def test_rule_9_nothing_leaks_across_realms(world: World) -> None:
    """The owner of another realm sees nothing of `lab`: 404 for its rows, 403 for what belongs to no realm."""
    other = await world.master.realm("other")
    bearer = await bearer_of(world, Grant(Role.OWNER, other["id"]))
    lab = await world.master.request("GET", "/realms/lab")
    for route in of(world):
        if route.rule.who != "administrator" or route.operation_id == "who_am_i":
            continue
        response = await send(world, route, await sample(world, route), bearer)
        if route.operation_id == "batch_nodes":
            assert [item["status"] for item in response.json()["items"]] == [404], route
            assert lab["id"] not in response.text and "thing-" not in response.text, route
        elif route.is_list and response.status_code == 200:
            assert lab["id"] not in response.text and "thing-" not in response.text, route
        elif route.operation_id in STREAMS:
            assert lab["id"] not in response.text, route
        else:
            check_problem(response, 404 if _of_realm(route) else response.status_code, route)
            assert response.status_code in {403, 404}, f"{route}: {response.text}"


def _of_realm(route: Route) -> bool:
    return route.rule.resource in {Resource.NODES, Resource.TOPOLOGY, Resource.ENROLMENT_TOKENS, Resource.POLICIES}


async def test_rule_9_scopes_stand_in_the_document(world: World) -> None:
    for route in of(world):
        assert route.document["x-required-scope"] == route.rule.scope
        if route.rule.resource is not None:
            assert route.rule.verb is not None


async def test_rule_12_every_mutation_writes_one_audit_entry(world: World) -> None:
    seen = 0
    for route in of(world):
        if not route.writes or route.rule.who == "node" or route.operation_id in LATE_STATES:
            continue
        seen += 1
        good = await sample(world, route)
        before = await audited(world)
        response = await send(world, route, good)
        assert response.status_code < 300, f"{route}: {response.text}"
        page = await world.master.request("GET", "/audit-events", params={"action": route.operation_id, "limit": "500"})
        own = [entry for entry in page["items"] if entry["seq"] > before]
        assert len(own) == 1 and await audited(world) == before + 1, route
        assert own[0]["request_id"] == response.headers["x-request-id"], route
        for secret in _secrets(response):
            assert secret not in json.dumps(page), route
    assert seen >= 25


def _secrets(response: httpx.Response) -> list[str]:
    answer = response.json() if response.content else {}
    return [answer[name] for name in ("token", "credential", "client_secret") if name in answer]


async def test_rule_12_the_chain_holds_and_shows_a_change(world: World) -> None:
    for _ in range(5):
        await world.user()
    assert (await _verified(world))["first_fault"] is None
    from veilnet.api.audit.repository import AuditRepository  # noqa: PLC0415

    context = world.master.context
    async with write_session(context.engine, context.hub) as session:
        rows = await AuditRepository(session).after(2, 1)
        rows[0].actor_name = "somebody else"
    assert (await _verified(world))["first_fault"] == 3


async def _verified(world: World) -> dict[str, Any]:
    found = await world.master.request("GET", f"/operations/{await world.operation()}")
    assert found["state"] == "succeeded", found
    result: dict[str, Any] = found["result"]
    return result


async def test_rule_13_rates(master: Master) -> None:
    world = await make_world(master)
    one = Rate(per_second=0.01, burst=3)
    settings = make_settings(master.context.settings.state_dir, master.database.url)
    settings = settings.model_copy(update={"rates": RateSettings(read=one, write=one, anonymous=one)})
    app = create_app(settings, master.clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="https://m") as client:
        for route in routes(app):
            path = PREFIX + _any_path(route)
            headers = {**credentials(world, route), "If-Match": "*"}
            for _ in range(4):
                response = await client.request(route.method, path, headers=headers, json={})
            assert check_problem(response, 429, route)["code"] == "rate-limited"
            assert int(response.headers["retry-after"]) >= 1


async def test_rule_13_deprecated_routes_say_when_they_end(world: World) -> None:
    """RFC 9745 and RFC 8594, on answers and on refusals; half a year at least is left to change over."""
    seen = 0
    for route in of(world):
        good = await sample(world, route)
        headers = (await send(world, route, good)).headers
        refused = (await send(world, route, good, params={**good.query, "nonsense": "1"})).headers
        if not route.document.get("deprecated"):
            assert not {"deprecation", "sunset"} & {*headers, *refused}, route
            continue
        seen += 1
        since, sunset = (date.fromisoformat(route.document[name]) for name in ("x-deprecated-since", "x-sunset"))
        assert sunset - since >= timedelta(days=180), route
        for found in (headers, refused):
            assert found["deprecation"] == f"@{int(datetime(*since.timetuple()[:3], tzinfo=UTC).timestamp())}"
            assert parsedate_to_datetime(found["sunset"]).date() == sunset, route
            successor = re.fullmatch(r'<([^>]*)>; rel="successor-version"', found["link"])
            assert successor and successor[1].startswith(f"{PREFIX}/nodes/nod_"), route
        successors = [other for other in of(world) if other.path == route.document["x-successor"]]
        assert [other.method for other in successors] == [route.method], route
    assert seen >= 2


async def test_rule_13_a_deprecated_route_goes_when_its_time_has_come(world: World) -> None:
    late = [route for route in of(world) if date.fromisoformat(route.document.get("x-sunset", "9999-01-01")) <= TODAY]
    assert late == [], "their sunset has passed: remove them"
