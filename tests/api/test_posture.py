# SPDX-License-Identifier: Apache-2.0
"""Crypto posture: figures and rows agree, at each age of a certificate and through a rotation of the CA key."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Master
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


async def test_unknown_realm_and_filter_are_refused(master: Master) -> None:
    await master.realm()
    await master.request("GET", "/realms/nowhere/crypto-posture", status=404)
    await master.request("GET", "/realms/nowhere/crypto-posture/nodes", status=404)
    await master.request("GET", f"{PATH}/nodes?certificate=old", status=422)
