# SPDX-License-Identifier: Apache-2.0
"""The token endpoint, by RFC 6749 and with nothing of our own client."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import httpx

from tests.api.conftest import START, Master
from tests.api.signer import Signer
from veilnet.api.oauth.access_tokens import ASSERTION, LIFE
from veilnet.api.platform.rate_limit import Rate, RateLimiter

GRANT = {"grant_type": "client_credentials"}


async def account(master: Master, role: str = "auditor", **body: Any) -> str:
    fields = {"name": "robot", "grants": [{"role": role}], **body}
    return str((await master.request("POST", "/service-accounts", json=fields, status=201))["id"])


async def secret(master: Master, account_id: str, **body: Any) -> dict[str, Any]:
    path = f"/service-accounts/{account_id}/secrets"
    found: dict[str, Any] = await master.request("POST", path, json=body, status=201)
    return found


async def ask(master: Master, form: dict[str, str], **arguments: Any) -> httpx.Response:
    return await master.client.post("/oauth2/token", data=form, **arguments)


def posted(made: dict[str, Any]) -> dict[str, str]:
    return {**GRANT, "client_id": made["client_id"], "client_secret": made["client_secret"]}


def basic(name: str, text: str) -> dict[str, str]:
    joined = f"{quote(name, safe='')}:{quote(text, safe='')}"
    return {"Authorization": "Basic " + base64.b64encode(joined.encode()).decode()}


def refused(response: httpx.Response, error: str, status: int = 400) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error), response.text
    assert response.json().keys() == {"error", "error_description"}
    assert response.headers["content-type"] == "application/json" and response.headers["cache-control"] == "no-store"
    assert status != 401 or response.headers["www-authenticate"].startswith("Basic ")


async def test_an_access_token_both_ways_and_for_some_minutes(master: Master) -> None:
    made = await secret(master, await account(master))
    for response in (
        await ask(master, posted(made)),
        await ask(master, GRANT, headers=basic(made["client_id"], made["client_secret"])),
    ):
        assert response.status_code == 200 and response.headers["cache-control"] == "no-store"
        answer = response.json()
        assert (answer["token_type"], answer["expires_in"], "scope" in answer) == ("Bearer", LIFE, False)
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    me = await master.request("GET", "/whoami", headers=bearer)
    assert (me["kind"], me["id"]) == ("service_account", made["client_id"])
    await master.request("GET", "/audit-events", headers=bearer)
    await master.request("POST", "/realms", json={"name": "x"}, headers=bearer, status=403)
    assert made["client_secret"].split("_", 2)[2].encode() not in master.database.content()
    master.clock.now += LIFE
    await master.request("GET", "/whoami", headers=bearer, status=401)
    entries = (await master.request("GET", "/audit-events", params={"action": "issue_access_token"}))["items"]
    assert [entry["actor_id"] for entry in entries] == [made["client_id"]] * 2


async def test_scopes_narrow_and_never_widen(master: Master) -> None:
    made = await secret(master, await account(master))
    answer = (await ask(master, {**posted(made), "scope": "nodes:read users:delete"})).json()
    assert answer["scope"] == "nodes:read users:delete"
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    assert (await master.request("GET", "/whoami", headers=bearer))["scopes"] == {"nodes:read": None}
    for scope in ("nodes:write", "nodes:read  users:read", "*"):
        refused(await ask(master, {**posted(made), "scope": scope}), "invalid_scope")


async def test_every_refusal_is_the_standards(master: Master) -> None:
    one = await account(master)
    made, other = await secret(master, one), await secret(master, await account(master, name="other"))
    form, bare = posted(made), basic(made["client_id"], made["client_secret"])
    refused(await ask(master, {}), "invalid_request")
    refused(await ask(master, {**form, "grant_type": "password"}), "unsupported_grant_type")
    refused(await ask(master, form, headers=bare), "invalid_request")
    refused(await ask(master, GRANT), "invalid_client", 401)
    refused(await ask(master, {**form, "client_secret": form["client_secret"][:-1] + "!"}), "invalid_client", 401)
    refused(await ask(master, {**form, "client_secret": other["client_secret"]}), "invalid_client", 401)
    refused(await ask(master, {**form, "client_id": "sva_x"}), "invalid_client", 401)
    for header in ("Basic !", "Bearer x", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic w6k6"):
        refused(await ask(master, GRANT, headers={"Authorization": header}), "invalid_client", 401)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"grant_type=a&grant_type=a", b"\xff", b"grant_type=%ff", b"&".join([b"a=1"] * 40)):
        refused(await master.client.post("/oauth2/token", content=content, headers=kind), "invalid_request")
    refused(await master.client.post("/oauth2/token", json=form), "invalid_request")
    refused(await ask(master, {**form, "client_id": "a\0b"}), "invalid_request")
    await master.change("PATCH", f"/service-accounts/{one}", json={"state": "suspended"})
    refused(await ask(master, form), "invalid_client", 401)


async def test_rotation_with_an_overlap(master: Master) -> None:
    one = await account(master)
    old = await secret(master, one)
    new = await secret(master, one, overlap_seconds=600)
    for made in (old, new):
        assert (await ask(master, posted(made))).status_code == 200
    master.clock.now += 600
    refused(await ask(master, posted(old)), "invalid_client", 401)
    assert (await ask(master, posted(new))).status_code == 200
    listed = (await master.request("GET", f"/service-accounts/{one}/secrets"))["items"]
    assert [(item["state"], item["last_used_at"] is not None) for item in listed] == [
        ("expired", True),
        ("usable", True),
    ]
    assert "client_secret" not in listed[0]
    await master.change("DELETE", f"/service-accounts/{one}/secrets/{new['id']}", status=204)
    refused(await ask(master, posted(new)), "invalid_client", 401)


async def test_a_deleted_or_suspended_account_loses_its_tokens_at_once(master: Master) -> None:
    one = await account(master)
    bearer = {
        "Authorization": "Bearer " + (await ask(master, posted(await secret(master, one)))).json()["access_token"]
    }
    await master.change("PATCH", f"/service-accounts/{one}", json={"state": "suspended"})
    await master.request("GET", "/whoami", headers=bearer, status=401)
    await master.change("PATCH", f"/service-accounts/{one}", json={"state": "active"})
    await master.request("GET", "/whoami", headers=bearer)
    await master.change("DELETE", f"/service-accounts/{one}", status=204)
    await master.request("GET", "/whoami", headers=bearer, status=401)


async def test_nobody_gets_a_secret_of_an_account_that_may_more(master: Master) -> None:
    boss = await account(master, "owner")
    admin = await master.request("POST", "/api-tokens", json={"name": "a", "grants": [{"role": "admin"}]}, status=201)
    headers = {"Authorization": f"Bearer {admin['token']}"}
    await master.request("POST", f"/service-accounts/{boss}/secrets", json={}, headers=headers, status=403)


async def test_a_workloads_id_token_is_a_client_assertion(master: Master) -> None:
    issuer, subject = "https://ci.example", "repo:acme/net:ref:main"
    signer = Signer(issuer)
    signer.publish(master.context)
    body = {"name": "ci", "issuer": issuer, "client_id": "veilnet"}
    await master.request("POST", "/identity-providers", json=body, status=201)
    await account(master, issuer=issuer, subject=subject)
    form = {**GRANT, "client_assertion_type": ASSERTION}
    token = signer.token(now=START, sub=subject, aud="veilnet")
    answer = await ask(master, {**form, "client_assertion": token})
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await master.request("GET", "/whoami", headers=bearer))["name"] == "robot"
    for wrong in (
        signer.token(now=START, sub=subject + "x", aud="veilnet"),
        signer.token(now=START, sub=subject, aud="other"),
        signer.token(now=START - 3600, sub=subject, aud="veilnet"),
        Signer(issuer).token(now=START, sub=subject, aud="veilnet"),
        Signer("https://evil.example").token(now=START, sub=subject, aud="veilnet"),
        "x",
        "a.b.c",
        "a.e30.c",
    ):
        refused(await ask(master, {**form, "client_assertion": wrong}), "invalid_client", 401)
    refused(await ask(master, {**GRANT, "client_assertion": token}), "invalid_request")


async def test_the_endpoint_is_announced_and_has_a_rate(master: Master) -> None:
    found = (await master.client.get("/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] + "/oauth2/token" == found["token_endpoint"]
    assert found["issuer"] == "https://master.example:8443"
    rates = master.context.settings.rates.model_copy(update={"login": Rate(per_second=0.01, burst=1)})
    object.__setattr__(master.context, "limiter", RateLimiter(rates))
    await ask(master, GRANT)
    response = await ask(master, GRANT)
    refused(response, "temporarily_unavailable", 429)
    assert int(response.headers["retry-after"]) >= 1
