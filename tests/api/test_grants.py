# SPDX-License-Identifier: Apache-2.0
"""Nobody gives more than they have, nobody takes over who has more, and somebody stays who may do everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Master
from veilnet.api.access.service import create_api_token
from veilnet.api.db import write_session
from veilnet.api.platform.roles import ALLOWED, Grant, Resource, Role, Verb

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""Tables of cases whose outcome no database decides."""
MANAGERS = (Role.OWNER, Role.ADMIN)
"""The roles that may make accounts at all."""


async def bearer_of(master: Master, *grants: Grant) -> dict[str, str]:
    context = master.context
    async with write_session(context.engine, context.hub) as session:
        text = await create_api_token(session, "someone", master.clock.now, grants=grants)
    return {"Authorization": f"Bearer {text}"}


def covers(giver: Role, given: Role) -> bool:
    return {(r, v) for role, r, v in ALLOWED if role == given} <= {(r, v) for role, r, v in ALLOWED if role == giver}


def test_the_table_is_worth_testing() -> None:
    assert not covers(Role.ADMIN, Role.OWNER) and covers(Role.OWNER, Role.ADMIN)
    assert all(covers(Role.OWNER, role) for role in Role)


@SQLITE
@pytest.mark.parametrize("giver", list(Role))
async def test_nobody_gives_more_than_they_have(master: Master, giver: Role) -> None:
    """giver x role x (everywhere, in a realm) x every way to give a role away."""
    realm = (await master.realm())["id"]
    bearer = await bearer_of(master, Grant(giver))
    user = (await master.request("POST", "/users", json={"name": "victim"}, status=201))["id"]
    for count, given in enumerate(Role):
        for where in (None, realm):
            allowed = giver in MANAGERS and covers(giver, given)
            grants = [{"role": given.value, "realm_id": where}]
            name = f"{given}-{count}-{where is None}"
            for path in ("/users", "/groups", "/service-accounts", "/api-tokens"):
                body = {"name": name, "grants": grants}
                await master.request("POST", path, json=body, headers=bearer, status=201 if allowed else 403)
            found = await master.client.patch(
                f"/api/v1/users/{user}", json={"grants": grants}, headers={**bearer, "If-Match": "*"}
            )
            assert found.status_code == (200 if allowed else 403), found.text
            if allowed:
                await master.change("PATCH", f"/users/{user}", json={"grants": []})


@SQLITE
@pytest.mark.parametrize("holder", list(Role))
async def test_an_admin_does_not_become_who_has_more(master: Master, holder: Role) -> None:
    """Each way to act as another: their identity at a provider, their tokens, their groups."""
    allowed = covers(Role.ADMIN, holder)
    bearer = {**await bearer_of(master, Grant(Role.ADMIN)), "If-Match": "*"}
    grants = [{"role": holder.value}]
    made: dict[str, str] = {}
    for path in ("/users", "/groups", "/service-accounts", "/api-tokens"):
        body = {"name": "holder", "grants": grants}
        made[path] = (await master.request("POST", path, json=body, status=201))["id"]
    other = (await master.request("POST", "/users", json={"name": "other"}, status=201))["id"]
    mine = {"issuer": "https://idp.example", "subject": "me"}
    own = {"name": "own", "grants": grants, "owner_id": made["/users"]}
    attempts: list[tuple[str, str, Any, int]] = [
        ("PATCH", f"/users/{made['/users']}", mine, 200),
        ("PATCH", f"/users/{made['/users']}", {"state": "suspended"}, 200),
        ("POST", f"/groups/{made['/groups']}/members", {"user_id": other}, 201),
        ("PATCH", f"/groups/{made['/groups']}", {"description": "x"}, 200),
        ("PATCH", f"/service-accounts/{made['/service-accounts']}", {**mine, "subject": "work"}, 200),
        ("POST", "/api-tokens", own, 201),
        ("POST", f"/api-tokens/{made['/api-tokens']}/revoke", None, 200),
        ("DELETE", f"/api-tokens/{made['/api-tokens']}", None, 204),
        ("DELETE", f"/service-accounts/{made['/service-accounts']}", None, 204),
        ("DELETE", f"/groups/{made['/groups']}", None, 204),
        ("DELETE", f"/users/{made['/users']}", None, 204),
    ]
    for method, path, body, good in attempts:
        found = await master.client.request(method, f"/api/v1{path}", json=body, headers=bearer)
        assert found.status_code == (good if allowed else 403), f"{method} {path}: {found.text}"


async def test_a_narrowed_token_gives_nothing_beyond_its_scopes(master: Master) -> None:
    scopes = ["users:create", "users:update", "users:read", "groups:update", "groups:create"]
    body = {"name": "narrow", "grants": [{"role": "owner"}], "scopes": scopes}
    created = await master.request("POST", "/api-tokens", json=body, status=201)
    bearer = {"Authorization": f"Bearer {created['token']}"}
    boss = await master.request("POST", "/users", json={"name": "boss", "grants": [{"role": "owner"}]}, status=201)
    group = await master.request("POST", "/groups", json={"name": "bosses", "grants": [{"role": "owner"}]}, status=201)
    await master.request("POST", "/users", json={"name": "plain"}, headers=bearer, status=201)
    readonly = {"name": "r", "grants": [{"role": "readonly"}]}
    await master.request("POST", "/users", json=readonly, headers=bearer, status=403)
    mine = {"issuer": "https://idp.example", "subject": "me"}
    headers = {**bearer, "If-Match": "*"}
    await master.request("PATCH", f"/users/{boss['id']}", json=mine, headers=headers, status=403)
    await master.request(
        "POST", f"/groups/{group['id']}/members", json={"user_id": boss["id"]}, headers=bearer, status=403
    )
    own = await master.request("POST", f"/whoami/tokens/{created['id']}/revoke", headers=bearer)
    assert own["state"] == "revoked"
    await master.request("GET", "/users", headers=bearer, status=401)


async def test_the_last_owner_stays(master: Master) -> None:
    first = (await master.request("GET", "/whoami"))["token_id"]
    admin = await bearer_of(master, Grant(Role.ADMIN))
    for path in (f"/api-tokens/{first}/revoke", f"/whoami/tokens/{first}/revoke"):
        assert (await master.request("POST", path, status=409))["code"] == "last-owner"
    assert (await master.change("DELETE", f"/api-tokens/{first}", status=409))["code"] == "last-owner"
    group = await master.request("POST", "/groups", json={"name": "bosses", "grants": [{"role": "owner"}]}, status=201)
    person = {"name": "boss", "issuer": "https://idp.example", "subject": "boss"}
    user = await master.request("POST", "/users", json=person, status=201)
    await master.request("POST", f"/groups/{group['id']}/members", json={"user_id": user["id"]}, status=201)
    # nobody can sign in as this person: no provider of that issuer is configured
    assert (await master.request("POST", f"/api-tokens/{first}/revoke", status=409))["code"] == "last-owner"
    body = {"name": "boss's", "grants": [{"role": "owner"}], "owner_id": user["id"]}
    second = await master.request("POST", "/api-tokens", json=body, status=201)
    await master.request("POST", f"/api-tokens/{first}/revoke")
    master.admin = {"Authorization": f"Bearer {second['token']}"}
    (member,) = (await master.request("GET", f"/groups/{group['id']}/members"))["items"]
    for method, path, change in (
        ("PATCH", f"/users/{user['id']}", {"state": "suspended"}),
        ("DELETE", f"/users/{user['id']}", None),
        ("PATCH", f"/groups/{group['id']}", {"grants": []}),
        ("DELETE", f"/groups/{group['id']}", None),
        ("DELETE", f"/groups/{group['id']}/members/{member['id']}", None),
        ("DELETE", f"/api-tokens/{second['id']}", None),
    ):
        problem = await master.change(method, path, json=change, status=409)
        assert problem["code"] == "last-owner", path
    assert (await master.request("GET", "/whoami"))["name"] == "boss"
    await master.request("GET", "/users", headers=admin)


async def test_two_owners_at_once_do_not_remove_each_other(master: Master) -> None:
    first = (await master.request("GET", "/whoami"))["token_id"]
    other = await bearer_of(master, Grant(Role.OWNER))
    second = (await master.request("GET", "/whoami", headers=other))["token_id"]
    answers = await asyncio.gather(
        master.client.post(f"/api/v1/api-tokens/{second}/revoke", headers=master.admin),
        master.client.post(f"/api/v1/api-tokens/{first}/revoke", headers=other),
    )
    assert sorted(answer.status_code for answer in answers) in ([200, 401], [200, 409])
    seen = [await master.client.get("/api/v1/whoami", headers=headers) for headers in (master.admin, other)]
    assert sorted(answer.status_code for answer in seen) == [200, 401]


async def test_own_tokens_are_listed_and_revoked_and_nobody_elses(master: Master) -> None:
    body: dict[str, Any] = {"name": "boss", "grants": [{"role": "owner"}]}
    user = await master.request("POST", "/users", json=body, status=201)
    token = await master.request("POST", "/api-tokens", json={**body, "owner_id": user["id"]}, status=201)
    bearer = {"Authorization": f"Bearer {token['token']}"}
    second = await master.request("POST", "/api-tokens", json={**body, "name": "second"}, headers=bearer, status=201)
    assert (second["owner_id"], second["created_by"]) == (user["id"], user["id"])
    listed = await master.request("GET", "/whoami/tokens", headers=bearer)
    assert [item["id"] for item in listed["items"]] == [token["id"], second["id"]]
    filtered = await master.request("GET", "/api-tokens", params={"owner_id": user["id"], "kind": "standing"})
    assert [item["id"] for item in filtered["items"]] == [token["id"], second["id"]]
    first = (await master.request("GET", "/whoami"))["token_id"]
    await master.request("POST", f"/whoami/tokens/{first}/revoke", headers=bearer, status=404)
    await master.request("POST", f"/whoami/tokens/{token['id']}/revoke", status=404)
    await master.request("POST", f"/whoami/tokens/{second['id']}/revoke", headers=bearer)
    gone = {"Authorization": f"Bearer {second['token']}"}
    await master.request("GET", "/whoami", headers=gone, status=401)


async def test_tokens_end_with_their_person(master: Master) -> None:
    user = await master.request("POST", "/users", json={"name": "p", "grants": [{"role": "admin"}]}, status=201)
    body = {"name": "t", "grants": [{"role": "admin"}], "owner_id": user["id"]}
    token = await master.request("POST", "/api-tokens", json=body, status=201)
    bearer = {"Authorization": f"Bearer {token['token']}"}
    made = await master.request("POST", "/api-tokens", json={**body, "owner_id": None}, headers=bearer, status=201)
    heir = {"Authorization": f"Bearer {made['token']}"}
    await master.request("GET", "/whoami", headers=heir)
    await master.change("PATCH", f"/users/{user['id']}", json={"state": "suspended"})
    for headers in (bearer, heir):
        await master.request("GET", "/whoami", headers=headers, status=401)
    assert [item["id"] for item in (await master.request("GET", "/users", params={"state": "suspended"}))["items"]] == [
        user["id"]
    ]


async def test_identities_are_whole_and_unique(master: Master) -> None:
    one = {"name": "one", "issuer": "https://idp.example", "subject": "s"}
    await master.request("POST", "/users", json=one, status=201)
    for path, body, status in (
        ("/users", {**one, "name": "two"}, 409),
        ("/service-accounts", {**one, "name": "two"}, 409),
        ("/users", {"name": "three", "issuer": "https://idp.example"}, 422),
        ("/users", {"name": "three", "subject": "s"}, 422),
    ):
        await master.request("POST", path, json=body, status=status)


def test_only_an_owner_decides_whom_to_trust() -> None:
    changing = {
        role for role, resource, verb in ALLOWED if resource == Resource.IDENTITY_PROVIDERS and verb != Verb.READ
    }
    assert changing == {Role.OWNER}
