# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import stat
from ipaddress import IPv6Network
from typing import Any

import pytest

from tests.api.conftest import INHERITED, Master


async def test_realm_has_its_own_ca_key_on_disk_only(master: Master) -> None:
    realm = await master.realm()
    assert realm["id"].startswith("rlm_")
    assert realm["realm"] == realm["ca_fingerprint"][:32]
    assert IPv6Network(realm["ipv6_prefix"]).subnet_of(IPv6Network("fd00::/8"))
    assert realm["settings"] == {**INHERITED, "min_guardians": 2, "rekey_seconds": 120, "idle_seconds": 300}
    (key_file,) = master.context.settings.realms_dir.iterdir()
    assert key_file.name == f"{realm['realm']}.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    database = master.database.content()
    assert realm["realm"].encode() in database
    seed = key_file.read_bytes()
    for form in (seed, seed.hex().encode(), base64.b64encode(seed)):
        assert form not in database
    public = master.context.cas.key(realm["realm"]).public_key().public_bytes_raw()
    assert hashlib.sha256(public).hexdigest() == realm["ca_fingerprint"]


async def test_realms_are_found_by_id_and_name(master: Master) -> None:
    realm = await master.realm("one")
    assert await master.request("GET", "/realms/one") == realm
    assert await master.request("GET", f"/realms/{realm['id']}") == realm
    problem = await master.request("GET", "/realms/two", status=404)
    assert problem["code"] == "not-found"
    assert "'two'" in problem["detail"]


async def test_a_name_is_taken_once(master: Master) -> None:
    await master.realm("one")
    problem = await master.request("POST", "/realms", json={"name": "one"}, status=409)
    assert problem["code"] == "name-taken"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "Upper"}, "/name"),
        ({"name": "a" * 64}, "/name"),
        ({"name": "x", "ipv4_range": "10.0.0.1/16"}, "/ipv4_range"),
        ({"name": "x", "ipv4_range": "127.0.0.0/8"}, "/ipv4_range"),
        ({"name": "x", "ipv4_range": "10.0.0.0/30"}, "/ipv4_range"),
        ({"name": "x", "ipv4_range": "240.0.0.0/8"}, "/ipv4_range"),
        ({"name": "x", "settings": {"min_guardians": -1}}, "/settings/min_guardians"),
        ({"name": "x", "settings": {"typo": 1}}, "/settings/typo"),
        ({"name": "x", "extra": 1}, "/extra"),
    ],
)
async def test_wrong_fields_are_named(master: Master, body: dict[str, Any], pointer: str) -> None:
    problem = await master.request("POST", "/realms", json=body, status=422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_settings_are_replaced_and_raise_the_version(master: Master) -> None:
    before = await master.realm()
    body = {"min_guardians": 0, "rekey_seconds": 60}
    settings = await master.change("PUT", "/realms/lab/settings", json=body)
    after = await master.request("GET", "/realms/lab")
    assert after["settings"] == settings == {**INHERITED, "min_guardians": 0, "rekey_seconds": 60, "idle_seconds": 300}
    assert after["version"] == before["version"] + 1


async def test_pages_follow_each_other_without_gap_or_repeat(master: Master) -> None:
    names = [f"realm-{number}" for number in range(7)]
    for name in names:
        await master.realm(name)
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = await master.request("GET", "/realms", params=query)
        found += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["items"]) == 3
    assert sorted(found) == names


@pytest.mark.parametrize("limit", ["0", "501", "x"])
async def test_limit_has_bounds(master: Master, limit: str) -> None:
    problem = await master.request("GET", "/realms", params={"limit": limit}, status=422)
    assert problem["errors"][0]["pointer"] == "query/limit"
