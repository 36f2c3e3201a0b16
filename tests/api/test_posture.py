# SPDX-License-Identifier: Apache-2.0
"""Crypto posture: figures and rows agree, at each age of a certificate and through a rotation of the CA key."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Identity, Master, node_headers
from veilnet.api.posture.repository import STATES

PATH = "/realms/lab/crypto-posture"


async def rows(master: Master, state: str | None = None) -> list[Any]:
    query = "" if state is None else f"?certificate={state}"
    return list((await master.request("GET", f"{PATH}/nodes{query}"))["items"])


async def test_figures_and_rows_agree_as_certificates_age(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=None)
    await master.enrol("one", token=token)
    gone = await master.enrol("two", token=token)
    await master.request("POST", f"/nodes/{gone['id']}:revoke")
    start, life = master.clock.now, (await master.request("GET", PATH))["certificate_seconds"]
    late = start + life - life // 3
    for now, state in ((late, "fresh"), (late + 1, "late"), (start + life - 1, "late"), (start + life, "ended")):
        master.clock.now = now
        figures = await master.request("GET", PATH)
        assert figures["members"] == 1  # a revoked node is none
        assert {name: figures[f"certificates_{name}"] for name in STATES} == {n: int(n == state) for n in STATES}
        assert [row["certificate"] for row in await rows(master)] == [state]
        assert [len(await rows(master, name)) for name in STATES] == [int(name == state) for name in STATES]
    assert figures["descriptors_ended"] == 1
    assert figures["suite"]["signature"] == "ML-DSA-65"


async def test_a_rotation_shows(master: Master) -> None:
    await master.realm()
    await master.enrol("one", token=await master.token())
    before, node = await master.request("GET", PATH), (await rows(master))[0]
    assert not before["ca_announced"]
    await master.request("POST", "/realms/lab/ca:announce", status=200)
    announced = await master.request("GET", PATH)
    assert announced["ca_announced"]
    assert announced["ca_fingerprint"] == before["ca_fingerprint"]
    master.clock.now += 60
    await master.request("POST", "/realms/lab/ca:activate", status=200)
    active = await master.request("GET", PATH)
    assert active["ca_fingerprint"] != before["ca_fingerprint"]
    assert active["ca_active_since"] > before["ca_active_since"]
    assert node["ca_key_id"] == before["ca_fingerprint"][:32]


SAID = {"version": "0.1.0", "provider": "OpenSSL 3.5.4 30 Sep 2025, cryptography 50.0.0", "kernel": "6.1.0-1-amd64"}


async def test_what_nodes_run_is_counted_and_found(master: Master) -> None:
    realm = await master.realm()
    token = await master.token(usage_limit=None)
    one, two, three = [await master.enrol(name, token=token) for name in ("one", "two", "three")]
    await master.app.state.feeds.of(realm["id"]).turn(due=True)
    etag = (await master.client.get(f"/api/v1/nodes/{one['id']}", headers=master.admin)).headers["etag"]
    version = (await master.request("GET", "/realms/lab"))["version"]

    async def say(node: dict[str, Any], status: int = 200, **other: str) -> Any:
        body, headers = {**SAID, **other}, node_headers(node)
        return await master.request("PUT", "/node/software", json=body, headers=headers, status=status)

    said = await say(one)
    master.clock.now += 5
    assert await say(one) == said, "since it was first said"
    await say(two)
    figures = (await master.request("GET", PATH))["software"]
    assert [(item["version"], item["nodes"]) for item in figures] == [("0.1.0", 2), (None, 1)]
    newer = await say(two, version="0.2.0~rc1")
    assert newer["since"] != said["since"]
    page = await master.request("GET", f"{PATH}/nodes?version=0.1.0")
    assert [(row["name"], row["software"]) for row in page["items"]] == [("one", said)]
    assert {row["name"]: row["software"] for row in await rows(master)}["three"] is None
    for wrong in ({"version": "1\n2"}, {"provider": "caf\u00e9"}, {"kernel": ""}, {"kernel": "k" * 129}):
        problem = await say(three, 422, **wrong)
        assert [error["pointer"] for error in problem["errors"]] == [f"/{name}" for name in wrong]
    after = await master.client.get(f"/api/v1/nodes/{one['id']}", headers=master.admin)
    assert after.headers["etag"] == etag, "nobody has configured anything"
    await master.app.state.feeds.of(realm["id"]).turn(due=True)
    assert (await master.request("GET", "/realms/lab"))["version"] == version, "nothing is signed for it"


async def test_a_node_that_enrols_anew_has_said_nothing(master: Master) -> None:
    await master.realm()
    identity, token = Identity(), await master.token(usage_limit=None)
    first = await master.enrol("one", identity=identity, token=token)
    await master.request("PUT", "/node/software", json=SAID, headers=node_headers(first))
    await master.change("DELETE", f"/nodes/{first['id']}", status=204)
    await master.enrol("one", identity=identity, token=token)
    assert [row["software"] for row in await rows(master)] == [None]


async def test_unknown_realm_and_filter_are_refused(master: Master) -> None:
    await master.realm()
    await master.request("GET", "/realms/nowhere/crypto-posture", status=404)
    await master.request("GET", "/realms/nowhere/crypto-posture/nodes", status=404)
    await master.request("GET", f"{PATH}/nodes?certificate=old", status=422)
