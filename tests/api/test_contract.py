# SPDX-License-Identifier: Apache-2.0
"""What holds for every route: credentials, problem documents, limits, and that no answer can carry a private key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from tests.api.conftest import START, Master, make_settings, node_headers
from veilnet.api.app import BODY_MAX, create_app
from veilnet.api.ids import new_id
from veilnet.api.models import Base

PUBLIC = {("post", "/api/v1/enrolments"), ("get", "/api/v1/login"), ("post", "/api/v1/login/sessions")}
ONE_TIME = {
    "TokenCreated.token",
    "Enrolled.credential",
    "ApiTokenCreated.token",
    "SecretCreated.client_secret",
    "WebhookCreated.secret",
    "SessionCreated.token",
}
NO_SECRETS = {"AuditEventOut.hash"}
SUSPICIOUS = re.compile(r"private|secret|seed|password|credential|hash|bearer|(^|_)(token|pem)($|_)")


def routes(master: Master) -> list[tuple[str, str]]:
    paths = master.app.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


async def test_every_route_refuses_a_missing_wrong_or_foreign_credential(master: Master) -> None:
    await master.realm()
    node = node_headers(await master.enrol("one"))
    seen = 0
    for method, path in routes(master):
        if (method, path) in PUBLIC:
            continue
        seen += 1
        own = path.startswith("/api/v1/node/")
        foreign = master.admin if own else node
        wrong = {"Authorization": foreign["Authorization"][:-1] + "!"}
        basic = {"Authorization": "Basic YTpi"}
        for headers in ({}, foreign, wrong, basic, {"Authorization": "Bearer é".encode()}):
            url = re.sub(r"\{\w+\}", "x", path)
            response = await master.client.request(method, url, headers=headers, json={})  # type: ignore[arg-type]
            assert response.status_code == 401, f"{method} {path}: {response.text}"
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["code"] == "unauthorized"
    assert seen >= 15


async def test_changed_admin_token_is_refused_even_after_the_right_one(master: Master) -> None:
    await master.request("GET", "/realms")
    text = master.admin["Authorization"]
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    await master.request("GET", "/realms", headers={"Authorization": changed}, status=401)


async def test_unknown_paths_and_methods_are_problems_too(master: Master) -> None:
    assert (await master.request("GET", "/nothing", status=404))["type"] == "urn:veilnet:problem:not-found"
    assert (await master.request("DELETE", "/realms", status=405))["code"] == "method-not-allowed"


async def test_bodies_that_are_not_json(master: Master) -> None:
    headers = {**master.admin, "Content-Type": "application/json"}
    bodies = (
        b"{",
        b"\xff\xfe",
        b'{"name": "\\u0000"}',
        b'{"name": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 90000,
    )
    for content in bodies:
        problem = await master.request("POST", "/realms", content=content, headers=headers, status=400)
        assert problem["code"] == "malformed-json"
    await master.request("POST", "/realms", content=b"", headers=headers, status=422)
    problem = await master.request("POST", "/realms", content=b"name=x", status=415)
    assert problem["code"] == "unsupported-media-type"


async def test_oversized_bodies_are_refused_announced_or_not(master: Master) -> None:
    big = b" " * (BODY_MAX + 1)

    async def stream() -> Any:
        for _ in range(17):
            yield big[: BODY_MAX // 16]

    for content in (big, stream()):
        problem = await master.request("POST", "/enrolments", content=content, status=413)
        assert problem["code"] == "too-large"


async def test_a_bug_is_a_problem_without_details(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("confidential")

    monkeypatch.setattr("veilnet.api.realms.service.ula_prefix", broken)
    problem = await master.request("POST", "/realms", json={"name": "x"}, status=500)
    assert problem["code"] == "internal"
    assert "confidential" not in str(problem)
    assert (await master.request("GET", "/realms"))["items"] == []  # nothing was committed


def test_no_answer_can_carry_a_secret(tmp_path: Path) -> None:
    """Follows every schema that an answer refers to; request bodies are the only place for the rest."""
    openapi = create_app(make_settings(tmp_path)).openapi()
    schemas = openapi["components"]["schemas"]
    pending = [
        reference
        for methods in openapi["paths"].values()
        for operation in methods.values()
        for reference in references(operation["responses"])
    ]
    seen: set[str] = set()
    found = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        found |= {
            f"{name}.{prop}"
            for prop in schemas[name].get("properties", {})
            if SUSPICIOUS.search(prop) and not prop.endswith("_id")
        }
        pending += references(schemas[name])
    assert found == ONE_TIME | NO_SECRETS
    assert {"NodeOut", "RealmOut", "TokenOut", "Enrolled", "EdgeOut", "Problem"} <= seen


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if "$ref" in value else []
        return own + [name for item in value.values() for name in references(item)]
    return [name for item in value for name in references(item)] if isinstance(value, list) else []


async def test_migrations_build_the_schema_that_the_models_name(master: Master) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    async with master.context.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_everything_survives_a_restart(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=None)
    one, two = await master.enrol("one", token=token), await master.enrol("two", token=token)
    await master.request("POST", "/realms/lab/edges", json={"a": "one", "b": "two"}, status=201)
    snapshot = await master.request("GET", "/node/snapshot", headers=node_headers(one))
    again = create_app(master.context.settings, master.clock)
    async with again.router.lifespan_context(again):
        master.app = again
        master.client._transport = type(master.client._transport)(again)  # type: ignore[call-arg]
        assert await master.request("GET", "/node/snapshot", headers=node_headers(two)) == snapshot
        assert len((await master.request("GET", "/realms/lab/edges"))["items"]) == 1
        await master.enrol("three", token=token)


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id("nod") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"nod_0[0-9a-z]{25}", item) for item in ids)
    stamps = [item[4:14] for item in ids]
    assert stamps == sorted(stamps)
    assert START  # the fixture's clock is fixed; ids use the real one
