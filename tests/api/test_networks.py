# SPDX-License-Identifier: Apache-2.0
"""Networks behind nodes: proposed, approved, in conflict, withdrawn; up to what the other nodes are sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import START, Master, node_headers
from tests.api.test_channel import Running
from tests.api.test_policies import confluxes
from tests.patience import PATIENCE
from veilnet.api.platform.rate_limit import Rate, RateLimiter
from veilnet.keyd.advertise import Proposal, advertise, advertised
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeFiles
from veilnet.protocol.documents import NETWORKS_MAX
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust

pytest_plugins = ("tests.api.test_channel",)

LAN = "192.168.7.0/24"


async def propose(master: Master, node: dict[str, Any], *prefixes: str, status: int = 200) -> Any:
    body = {"prefixes": list(prefixes)}
    return await master.request("PUT", "/node/networks", json=body, headers=node_headers(node), status=status)


async def listed(master: Master, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await master.request("GET", "/advertised-networks", params=query))["items"]
    return found


async def act(master: Master, network: dict[str, Any], action: str, status: int = 200, **body: Any) -> Any:
    path = f"/advertised-networks/{network['id']}:{action}"
    return await master.request("POST", path, json=body or None, status=status)


async def add(master: Master, node: dict[str, Any], prefix: str, status: int = 201, **body: Any) -> Any:
    fields = {"node_id": node["id"], "prefix": prefix, **body}
    return await master.request("POST", "/advertised-networks", json=fields, status=status)


async def remove(master: Master, network: dict[str, Any]) -> None:
    await master.change("DELETE", f"/advertised-networks/{network['id']}", status=204)


async def seen(master: Master, by: dict[str, Any], of: str) -> tuple[str, ...]:
    """Networks that the certificate of node `of` lists, as another node verifies it."""
    body = await master.request("GET", "/node/snapshot", headers=node_headers(by))
    replica = Replica(Trust.root(base64.b64decode(by["ca_key"])).extended([], 0), bytes.fromhex(by["node_id"]))
    replica.take_head(body["head"], START)
    for record in body["records"]:
        replica.take_record(record, START)
    (found,) = [node for node in replica.directory(START).nodes.values() if node.name == of]
    return tuple(map(str, found.networks))


async def test_a_proposal_is_signed_once_it_is_approved_and_no_longer_than_it_is_proposed(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    answer = await propose(master, nodes["a"], LAN, "fd00:7::/64")
    assert answer["networks"] == {LAN: "proposed", "fd00:7::/64": "proposed"}
    assert await seen(master, nodes["b"], "a") == ()
    lan, six = sorted(await listed(master), key=lambda row: str(row["prefix"]))
    await act(master, lan, "approve")
    assert await seen(master, nodes["b"], "a") == (LAN,)
    await act(master, six, "approve")
    assert await seen(master, nodes["b"], "a") == (LAN, "fd00:7::/64")
    assert (await propose(master, nodes["a"], "fd00:7::/64"))["networks"] == {"fd00:7::/64": "approved"}
    assert await seen(master, nodes["b"], "a") == ("fd00:7::/64",)


async def test_a_rejected_network_is_not_asked_for_again(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    await propose(master, nodes["a"], LAN)
    (lan,) = await listed(master, state="proposed")
    await act(master, lan, "approve")
    await act(master, lan, "reject")
    assert await seen(master, nodes["b"], "a") == ()
    assert (await propose(master, nodes["a"], LAN))["networks"] == {LAN: "rejected"}
    await propose(master, nodes["a"])
    assert (await propose(master, nodes["a"], LAN))["networks"] == {LAN: "rejected"}
    await remove(master, lan)
    assert (await propose(master, nodes["a"], LAN))["networks"] == {LAN: "proposed"}


async def test_an_administrators_network_stays_whatever_the_node_proposes(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    made = await add(master, nodes["a"], LAN)
    assert (made["state"], made["proposed"], made["conflicts"]) == ("approved", False, [])
    await propose(master, nodes["a"])
    assert await seen(master, nodes["b"], "a") == (LAN,)
    assert (await add(master, nodes["a"], LAN, status=409))["code"] == "network-known"
    await remove(master, made)
    assert await seen(master, nodes["b"], "a") == ()


async def test_conflicts_are_shown_and_have_to_be_accepted(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    wide = await add(master, nodes["a"], "192.168.0.0/16")
    await propose(master, nodes["b"], LAN)
    (narrow,) = await listed(master, state="proposed")
    assert narrow["conflicts"] == [wide["id"]]
    refused = await act(master, narrow, "approve", status=409)
    assert refused["code"] == "network-conflict" and wide["id"] in refused["detail"]
    assert await seen(master, nodes["a"], "b") == ()
    taken = await act(master, narrow, "approve", accept_conflicts=True)
    assert taken["state"] == "approved"
    assert (await master.request("GET", f"/advertised-networks/{wide['id']}"))["conflicts"] == [narrow["id"]]
    await act(master, wide, "reject")
    assert (await listed(master, state="approved"))[0]["conflicts"] == []


@pytest.mark.parametrize(
    "prefix", ["10.90.0.0/24", "127.0.0.0/8", "169.254.1.0/24", "224.0.0.0/4", "fe80::/64", "::ffff:1.2.3.0/120"]
)
async def test_what_is_never_behind_a_node_is_refused(master: Master, prefix: str) -> None:
    nodes = await confluxes(master, "a")
    realm = await master.request("GET", "/realms/lab")
    prefix = realm["ipv4_range"] if prefix.startswith("10.90.") else prefix
    assert (await propose(master, nodes["a"], LAN, prefix, status=422))["code"] == "network-refused"
    assert await listed(master) == []
    assert (await add(master, nodes["a"], prefix, status=422))["code"] == "network-refused"


async def test_host_bits_guardians_and_too_many_are_refused(master: Master) -> None:
    nodes = await confluxes(master, "a")
    await propose(master, nodes["a"], "192.168.7.1/24", status=422)
    refused = await add(master, nodes["a"], "10.0.0.1/8", status=422)
    assert {error["pointer"] for error in refused["errors"]} == {"/prefix"}
    guardian = await master.enrol("g")
    assert (await propose(master, guardian, LAN, status=409))["code"] == "not-a-conflux"
    many = [f"172.16.{n}.0/24" for n in range(NETWORKS_MAX + 1)]
    await propose(master, nodes["a"], *many, status=422)
    await propose(master, nodes["a"], *many[:NETWORKS_MAX])
    for row in await listed(master, limit="200"):
        await act(master, row, "approve")
    assert (await add(master, nodes["a"], many[-1], status=409))["code"] == "too-many-networks"


async def test_networks_go_with_their_node(master: Master) -> None:
    nodes = await confluxes(master, "a", "b")
    await add(master, nodes["a"], LAN)
    await master.request("POST", f"/nodes/{nodes['a']['id']}:revoke")
    assert await listed(master) == []
    await add(master, nodes["b"], LAN)
    await propose(master, nodes["a"], LAN, status=403)


async def test_another_realms_administrator_neither_sees_nor_approves(master: Master) -> None:
    nodes = await confluxes(master, "a")
    await master.realm("other", ipv4_range="10.91.0.0/16")
    await propose(master, nodes["a"], LAN)
    (lan,) = await listed(master)
    other = await master.request("GET", "/realms/other")
    grants = [{"role": "admin", "realm_id": other["id"]}]
    made = await master.request("POST", "/api-tokens", json={"name": "o", "grants": grants}, status=201)
    foreign = {"Authorization": f"Bearer {made['token']}"}
    path = f"/advertised-networks/{lan['id']}"
    await master.request("GET", path, headers=foreign, status=404)
    await master.request("POST", f"{path}:approve", headers=foreign, status=404)
    body = {"node_id": nodes["a"]["id"], "prefix": "172.16.0.0/24"}
    await master.request("POST", "/advertised-networks", json=body, headers=foreign, status=404)
    assert (await master.request("GET", "/advertised-networks", headers=foreign))["items"] == []


async def contact(files: NodeFiles, done: Callable[[MasterClient], Any]) -> None:
    """A node's process, until this holds."""
    client = MasterClient(files)

    async def run() -> None:
        async for _ in client.snapshots():
            pass

    task = asyncio.create_task(run())
    async with asyncio.timeout(PATIENCE):
        while not (client.connected and done(client)):
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])


async def test_a_node_tells_what_it_advertises_and_once_that_it_no_longer_does(
    running: Running, tmp_path: Path
) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(roles=["conflux"]), "one", ())
    advertise(files, [ip_network(LAN)])
    await contact(files, lambda client: not client.refused)
    (row,) = (await running.call("GET", "/advertised-networks"))["items"]
    assert (row["prefix"], row["state"], row["proposed"]) == (LAN, "proposed", True)
    advertise(files, [])
    await contact(files, lambda _: advertised(files) is None)
    assert (await running.call("GET", "/advertised-networks"))["items"] == []


async def test_a_refused_proposal_keeps_nothing_else_from_working(running: Running, tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(roles=["conflux"]), "one", ())
    advertise(files, [ip_network("127.0.0.0/8")])
    await contact(files, lambda client: client.refused == {"NodeError": 1})


async def test_proposals_have_a_rate_of_their_own(master: Master) -> None:
    """What it refuses is not written, and neither other nodes nor other requests of the node wait for it."""
    nodes = await confluxes(master, "a", "b")
    rates = master.context.settings.rates.model_copy(update={"networks": Rate(per_second=0.01, burst=2)})
    object.__setattr__(master.context, "limiter", RateLimiter(rates))
    for _ in range(2):
        await propose(master, nodes["a"], LAN)
    body, headers = {"prefixes": ["192.168.8.0/24"]}, node_headers(nodes["a"])
    refused = await master.client.put("/api/v1/node/networks", json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    assert [row["prefix"] for row in await listed(master)] == [LAN]
    await master.request("GET", "/node/snapshot", headers=headers)
    await propose(master, nodes["b"], "192.168.9.0/24")


async def test_a_node_waits_as_long_as_the_master_says(tmp_path: Path) -> None:
    now = 1000.0
    answers = [httpx.Response(429, headers={"Retry-After": "30"}), httpx.Response(503), httpx.Response(200)]
    files = NodeFiles(tmp_path)
    advertise(files, [ip_network(LAN)])
    proposal = Proposal(files, lambda: now)
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answers.pop(0))) as client:
        for wait in (30, 10):
            assert proposal
            assert await proposal.send(client, "https://master.example", {}) is None
            now += wait - 1
            assert not proposal
            now += 1
        await proposal.send(client, "https://master.example", {})
    assert not proposal
    assert not answers
