# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master
from veilnet.enrolment_token import TokenTextError, read_token


async def test_token_pins_master_and_realm(master: Master) -> None:
    realm = await master.realm()
    token = await master.token()
    assert token.url == "https://master.example:8443"
    assert token.tls == "ab" * 32
    assert (token.realm, token.ca) == (realm["realm"], realm["ca_fingerprint"])


async def test_secret_is_shown_once_and_not_stored(master: Master) -> None:
    await master.realm()
    token = await master.token()
    listed = await master.request("GET", "/enrolment-tokens", params={"realm": "lab"})
    assert [item["id"] for item in listed["items"]] == [token.id]
    assert "token" not in listed["items"][0]
    stored = master.database.content()
    assert token.id.encode() in stored
    assert token.secret.encode() not in stored


async def test_one_off_token_is_spent_by_one_node(master: Master) -> None:
    await master.realm()
    token = await master.token()
    await master.enrol("one", token=token)
    problem = await master.enrol("two", token=token, status=403)
    assert problem["code"] == "token-spent"
    listed = await master.request("GET", "/enrolment-tokens")
    assert (listed["items"][0]["state"], listed["items"][0]["used"]) == ("spent", 1)


async def test_reusable_token_enrols_up_to_its_limit(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=2)
    await master.enrol("one", token=token)
    await master.enrol("two", token=token)
    assert (await master.enrol("three", token=token, status=403))["code"] == "token-spent"


async def test_token_without_limit(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=None)
    for name in ("one", "two", "three"):
        await master.enrol(name, token=token)


async def test_revoked_and_expired_tokens_say_so(master: Master) -> None:
    await master.realm()
    revoked, expired = await master.token(), await master.token(expires_in=60)
    answer = await master.request("POST", f"/enrolment-tokens/{revoked.id}/revoke")
    assert answer["state"] == "revoked"
    assert (await master.enrol("one", token=revoked, status=403))["code"] == "token-revoked"
    master.clock.now = START + 60
    assert (await master.enrol("one", token=expired, status=403))["code"] == "token-expired"


async def test_revoking_what_is_not_there(master: Master) -> None:
    assert (await master.request("POST", "/enrolment-tokens/tok_x/revoke", status=404))["code"] == "not-found"


async def test_wrong_secret_says_nothing_about_the_token(master: Master) -> None:
    await master.realm()
    token = await master.token()
    wrong = await master.enrol("one", token=token.model_copy(update={"secret": "x" * 43}), status=401)
    unknown = await master.enrol("one", token=token.model_copy(update={"id": "tok_nothing"}), status=401)
    assert wrong.pop("trace_id") != unknown.pop("trace_id")
    assert wrong == unknown
    assert wrong["code"] == "enrolment-refused"


async def test_token_may_fix_the_name(master: Master) -> None:
    await master.realm()
    token = await master.token(node_name="fixed")
    assert (await master.enrol("mine", token=token))["name"] == "fixed"


async def test_the_same_identity_may_ask_again(master: Master) -> None:
    await master.realm()
    token, identity = await master.token(), Identity()
    first = await master.enrol("one", token=token, identity=identity)
    again = await master.enrol("one", token=token, identity=identity)
    assert {**first, "credential": ""} == {**again, "credential": ""}
    listed = await master.request("GET", "/enrolment-tokens")
    assert listed["items"][0]["used"] == 1
    old = {"Authorization": f"Bearer {first['credential']}"}
    await master.request("GET", "/node/snapshot", headers=old, status=401)


@pytest.mark.parametrize(
    "body",
    [
        {"roles": ["guardian"]},
        {"realm": "lab", "roles": []},
        {"realm": "lab", "roles": ["root"]},
        {"realm": "lab", "roles": ["guardian"], "usage_limit": 0},
        {"realm": "lab", "roles": ["guardian"], "expires_in": 1},
        {"realm": "lab", "roles": ["guardian"], "node_name": "x", "usage_limit": 2},
        {"realm": "lab", "roles": ["guardian"], "secret": "mine"},
    ],
)
async def test_wrong_bodies_are_refused(master: Master, body: dict[str, Any]) -> None:
    await master.realm()
    assert (await master.request("POST", "/enrolment-tokens", json=body, status=422))["code"] == "invalid"


async def test_token_of_an_unknown_realm(master: Master) -> None:
    body = {"realm": "none", "roles": ["guardian"]}
    assert (await master.request("POST", "/enrolment-tokens", json=body, status=404))["code"] == "not-found"


async def test_token_text_survives_only_whole(master: Master) -> None:
    await master.realm()
    token = await master.token()
    text = token.encode()
    assert read_token(f"  {text}\n") == token
    for length in range(len(text)):
        with pytest.raises(TokenTextError) as caught:
            read_token(text[:length])
        assert token.secret not in str(caught.value)
    assert token.secret not in repr(token)
    with pytest.raises(TokenTextError, match="contradicts"):
        read_token(token.model_copy(update={"realm": "0" * 32}).encode())


async def test_revoking_with_disconnect_takes_the_nodes_too(master: Master) -> None:
    await master.realm()
    token, other = await master.token(usage_limit=None), await master.token()
    one, two = await master.enrol("one", token=token), await master.enrol("two", token=token)
    await master.enrol("three", token=other)
    await master.request("POST", f"/enrolment-tokens/{token.id}/revoke", params={"cascade": "disconnect"})
    nodes = (await master.request("GET", "/nodes"))["items"]
    assert {node["name"]: node["state"] for node in nodes} == {"one": "revoked", "two": "revoked", "three": "active"}
    for enrolled in (one, two):
        headers = {"Authorization": f"Bearer {enrolled['credential']}"}
        await master.request("GET", "/node/snapshot", headers=headers, status=403)


async def test_a_token_may_be_bound_to_addresses(master: Master) -> None:
    await master.realm()
    away = await master.token(allowed_cidrs=["192.0.2.0/24"])
    assert (await master.enrol("one", token=away, status=403))["code"] == "address-not-allowed"
    here = await master.token(allowed_cidrs=["192.0.2.0/24", "127.0.0.0/8"])  # the client of these tests is 127.0.0.1
    await master.enrol("one", token=here)
