# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Master


async def three(master: Master) -> list[dict[str, Any]]:
    await master.realm()
    token = await master.token(usage_limit=None)
    return [await master.enrol(name, token=token) for name in ("a", "b", "c")]


def pairs(topology: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((edge["a"]["name"], edge["b"]["name"]) for edge in topology["items"])


async def test_edges_are_unordered_and_made_once(master: Master) -> None:
    nodes = await three(master)
    first = await master.request("POST", "/realms/lab/edges", json={"a": "b", "b": "a"}, status=201)
    body = {"a": nodes[0]["id"], "b": nodes[1]["node_id"]}
    assert await master.request("POST", "/realms/lab/edges", json=body, status=201) == first
    assert pairs(await master.request("GET", "/realms/lab/edges")) == [("a", "b")]


async def test_replace_makes_exactly_the_wanted_edges_in_one_version(master: Master) -> None:
    await three(master)
    await master.request("POST", "/realms/lab/edges", json={"a": "a", "b": "b"}, status=201)
    version = (await master.request("GET", "/realms/lab"))["version"]
    wanted = {"edges": [{"a": "b", "b": "c"}, {"a": "a", "b": "c"}, {"a": "c", "b": "a"}]}
    assert await master.change("PUT", "/realms/lab/edges", json=wanted) == {"added": 2, "removed": 1}
    assert pairs(await master.request("GET", "/realms/lab/edges")) == [("a", "c"), ("b", "c")]
    assert await master.change("PUT", "/realms/lab/edges", json=wanted) == {"added": 0, "removed": 0}
    assert (await master.request("GET", "/realms/lab"))["version"] == version + 1


async def test_replace_with_an_unknown_node_changes_nothing(master: Master) -> None:
    await three(master)
    await master.request("POST", "/realms/lab/edges", json={"a": "a", "b": "b"}, status=201)
    wanted = {"edges": [{"a": "a", "b": "c"}, {"a": "a", "b": "nobody"}]}
    problem = await master.change("PUT", "/realms/lab/edges", json=wanted, status=404)
    assert "'nobody'" in problem["detail"]
    assert pairs(await master.request("GET", "/realms/lab/edges")) == [("a", "b")]


async def test_delete(master: Master) -> None:
    await three(master)
    edge = await master.request("POST", "/realms/lab/edges", json={"a": "a", "b": "b"}, status=201)
    await master.realm("other")
    await master.change("DELETE", f"/realms/other/edges/{edge['id']}", etag="*", status=404)
    await master.change("DELETE", f"/realms/lab/edges/{edge['id']}", status=204)
    await master.change("DELETE", f"/realms/lab/edges/{edge['id']}", etag="*", status=404)
    assert pairs(await master.request("GET", "/realms/lab/edges")) == []


async def test_revoking_a_node_takes_its_edges(master: Master) -> None:
    nodes = await three(master)
    wanted = {"edges": [{"a": "a", "b": "b"}, {"a": "b", "b": "c"}]}
    await master.change("PUT", "/realms/lab/edges", json=wanted)
    await master.request("POST", f"/nodes/{nodes[0]['id']}:revoke")
    assert pairs(await master.request("GET", "/realms/lab/edges")) == [("b", "c")]
    await master.request("POST", "/realms/lab/edges", json={"a": "a", "b": "b"}, status=404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"a": "a", "b": "a"}, 422),
        ({"a": "a"}, 422),
        ({"a": "a", "b": "b", "weight": 1}, 422),
        ({"a": "a", "b": "x"}, 404),
    ],
)
async def test_wrong_edges_are_refused(master: Master, body: dict[str, Any], status: int) -> None:
    await three(master)
    await master.request("POST", "/realms/lab/edges", json=body, status=status)
