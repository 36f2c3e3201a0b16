# SPDX-License-Identifier: Apache-2.0
"""Policy and taints over the API, up to what nodes are sent."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import START, Master, node_headers
from tests.protocol.test_policy import documents, members
from veilnet.api.policies.impact import impact
from veilnet.protocol.policy import Subject, may_talk, read_policy
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust

GUESTS = {"rules": [{"name": "apart", "effect": "deny", "between": ["taint:guest"], "and": ["taint:guest"]}]}


async def confluxes(master: Master, *names: str) -> dict[str, dict[str, Any]]:
    await master.realm()
    token = await master.token(roles=["conflux"], usage_limit=None)
    return {name: await master.enrol(name, token=token) for name in names}


async def taint(master: Master, enrolled: dict[str, Any], *taints: str) -> None:
    headers = {**master.admin, "If-Match": "*"}
    await master.request("PUT", f"/nodes/{enrolled['id']}/taints", json={"taints": list(taints)}, headers=headers)


async def put_policy(master: Master, document: Any, status: int = 200) -> Any:
    headers = {**master.admin, "If-Match": "*"}
    return await master.request("PUT", "/realms/lab/policy", json=document, headers=headers, status=status)


async def seen(master: Master, enrolled: dict[str, Any]) -> set[str]:
    """Names that this node is sent and uses; it uses all that it is sent."""
    body = await master.request("GET", "/node/snapshot", headers=node_headers(enrolled))
    trust = Trust.root(base64.b64decode(enrolled["ca_key"])).extended([], 0)
    replica = Replica(trust, bytes.fromhex(enrolled["node_id"]))
    replica.take_head(body["head"], START)
    for record in body["records"]:
        replica.take_record(record, START)
    names = {node.name for node in replica.directory(START).nodes.values()}
    assert len(names) == len(body["records"])
    return names


async def test_realm_begins_with_the_empty_document(master: Master) -> None:
    await confluxes(master)
    found = await master.request("GET", "/realms/lab/policy")
    assert found["document"] == {"default": "taints", "groups": {}, "rules": [], "tests": []}


async def test_taints_part_the_nodes_and_nobody_is_told_of_the_other_part(master: Master) -> None:
    nodes = await confluxes(master, "a", "b", "c")
    assert await seen(master, nodes["a"]) == {"a", "b", "c"}
    await taint(master, nodes["a"], "dev")
    assert await seen(master, nodes["a"]) == {"a"}
    assert await seen(master, nodes["b"]) == {"b", "c"}
    await taint(master, nodes["b"], "dev", "eu")
    assert await seen(master, nodes["a"]) == {"a", "b"}
    assert await seen(master, nodes["c"]) == {"c"}


async def test_policy_reaches_the_nodes(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    for node in nodes.values():
        await taint(master, node, "guest")
    assert await seen(master, nodes["a"]) == {"a", "b"}
    await put_policy(master, GUESTS)
    assert await seen(master, nodes["a"]) == {"a"}


async def test_document_that_fails_its_tests_is_not_taken(master: Master) -> None:
    await confluxes(master, "a", "b")
    failing = {"tests": [{"a": "a", "b": "b", "allowed": False}]}
    refused = await put_policy(master, failing, status=422)
    assert refused["code"] == "policy-test-failed"
    assert "neither has a taint" in refused["detail"]
    bad = {"rules": [{"name": "r", "effect": "allow", "between": ["group:none"], "and": ["*"]}]}
    assert (await put_policy(master, bad, status=422))["code"] == "policy-invalid"
    assert (await master.request("GET", "/realms/lab/policy"))["document"]["tests"] == []


async def test_check_says_what_would_change_and_changes_nothing(master: Master) -> None:
    nodes = await confluxes(master, "a", "b", "c")
    for name in ("a", "b"):
        await taint(master, nodes[name], "guest")
    document = {**GUESTS, "tests": [{"a": "a", "b": "b", "allowed": True}]}
    found = await master.request("POST", "/realms/lab/policy:check", json=document)
    assert (found["gained_total"], found["lost_total"], found["gained"]) == (0, 1, [])
    assert [(pair["a"], pair["b"], pair["reasons"]) for pair in found["lost"]] == [("a", "b", ["denied by rule apart"])]
    assert [failure["index"] for failure in found["failures"]] == [0]
    assert await seen(master, nodes["a"]) == {"a", "b"}


async def test_explain_names_the_reasons(master: Master) -> None:
    nodes = await confluxes(master, "a", "b", "c")
    await taint(master, nodes["a"], "dev")
    found = await master.request("GET", "/realms/lab/policy:explain", params={"a": "a", "b": "b"})
    assert found["allowed"] is False
    assert found["reasons"] == ["no rule allows it and they share no taint"]
    assert (found["a"]["taints"], found["neighbours"]) == (["dev"], False)
    found = await master.request("GET", "/realms/lab/policy:explain", params={"a": "c", "b": nodes["b"]["id"]})
    assert found["reasons"] == ["neither has a taint"]
    await master.request("GET", "/realms/lab/policy:explain", params={"a": "c", "b": "none"}, status=404)
    await master.request("GET", "/realms/lab/policy:explain", params={"a": "c", "b": "c"}, status=422)


async def test_stale_etag_is_refused(master: Master) -> None:
    await confluxes(master)
    response = await master.client.get("/api/v1/realms/lab/policy", headers=master.admin)
    headers = {**master.admin, "If-Match": response.headers["ETag"]}
    await master.request("PUT", "/realms/lab/policy", json=GUESTS, headers=headers)
    await master.request("PUT", "/realms/lab/policy", json={}, headers=headers, status=412)


fleets = st.lists(members(), max_size=6).map(
    lambda found: [Subject(f"n{place}", node.taints, node.worn) for place, node in enumerate(found)]
)


@given(documents, documents, fleets)
def test_impact_is_what_every_pair_says(old: Any, new: Any, fleet: list[Subject]) -> None:
    before, after = read_policy(old), read_policy(new)
    pairs = [(a, b) for place, a in enumerate(fleet) for b in fleet[place + 1 :]]
    changed = [(a, b) for a, b in pairs if may_talk(before, a, b) != may_talk(after, a, b)]
    gained = {frozenset((a.name, b.name)) for a, b in changed if may_talk(after, a, b)}
    found = impact(before, after, fleet)
    assert {frozenset(pair[:2]) for pair in found.gained} == gained
    assert (found.gained_total, found.lost_total) == (len(gained), len(changed) - len(gained))
