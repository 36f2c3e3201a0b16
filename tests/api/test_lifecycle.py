# SPDX-License-Identifier: Apache-2.0
"""A node's life: expired and renewed, drained, deleted; and what others are told of one that is not in use."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master, node_headers
from tests.api.test_snapshot_route import replica_of
from tests.patience import PATIENCE
from veilnet.api.db import write_session
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.protocol.directory import Directory, key_id
from veilnet.protocol.replica import Replica


async def look(
    master: Master, viewer: dict[str, Any], realm: dict[str, Any], replica: Replica | None = None
) -> Directory:
    """What the viewer makes of a snapshot; with a `replica`, of what is newer than that, as its channel brings it."""
    if replica is None:
        body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
        return replica_of(body, viewer, realm, master.clock.now).directory(master.clock.now)
    row = await master.request("GET", f"/nodes/{viewer['id']}")
    feed = master.app.state.feeds.of(row["realm_id"])
    with feed.join(bytes.fromhex(viewer["node_id"]), replica.version) as channel:
        await feed.turn()
        async for _, _, records in feed.opening(channel):
            for record in records:
                replica.take_record(json.loads(record), master.clock.now)
        replica.version = feed.version
    return replica.directory(master.clock.now)


async def entries(master: Master, viewer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Signed entries that the viewer is sent, by node id."""
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    found = [json.loads(base64.b64decode(record["entry"]["payload"])) for record in body["records"]]
    return {entry["node"]: entry for entry in found}


def names(directory: Directory) -> set[str]:
    return {node.name for node in directory.nodes.values()}


async def conflux(master: Master, name: str, *, identity: Identity | None = None, **token: Any) -> dict[str, Any]:
    return await master.enrol(name, token=await master.token(roles=["conflux"], **token), identity=identity)


# ---- what others are told ------------------------------------------------------------------------------------------


async def test_no_record_names_a_node_that_waits_for_approval_or_was_revoked(master: Master) -> None:
    await master.realm()
    found = sorted((Identity() for _ in range(8)), key=lambda identity: key_id(identity.key))  # the smaller id lists
    ends = [await conflux(master, f"c{place}", identity=identity) for place, identity in enumerate(found[:4])]
    waiting = [await conflux(master, f"w{place}", identity=identity, requires_approval=True)
               for place, identity in enumerate(found[4:])]  # fmt: skip
    for one in ends:
        for other in waiting:
            await master.request("POST", "/realms/lab/edges", json={"a": one["id"], "b": other["id"]}, status=201)
    hidden = {node["node_id"] for node in waiting}

    async def named(viewer: dict[str, Any]) -> set[str]:
        return {edge for entry in (await entries(master, viewer)).values() for edge in entry.get("edges", ())}

    for viewer in ends:
        assert not await named(viewer) & hidden
    for node in waiting:
        await master.request("POST", f"/nodes/{node['id']}:approve")
    everyone = [*ends, *waiting]
    listed = set.union(*[await named(viewer) for viewer in everyone])
    assert listed & hidden, "an approved node's edges count"
    await master.request("POST", f"/nodes/{waiting[0]['id']}:revoke")
    await master.request("DELETE", f"/nodes/{waiting[1]['id']}", headers={**master.admin, "If-Match": "*"}, status=204)
    await master.request("POST", f"/nodes/{waiting[2]['id']}:expire")
    gone = {node["node_id"] for node in waiting[:3]}
    for viewer in [*ends, waiting[3]]:
        assert not await named(viewer) & gone
    assert waiting[3]["node_id"] in set.union(*[await named(viewer) for viewer in [*ends, waiting[3]]])


async def test_taints_of_the_token_stand_in_the_signed_certificate(master: Master) -> None:
    realm = await master.realm()
    seen = await conflux(master, "seen", auto_taints=["dev", "eu"])
    certificate = json.loads(base64.b64decode(seen["certificate"]["payload"]))
    assert certificate["taints"] == ["dev", "eu"]
    viewer = await conflux(master, "viewer", auto_taints=["dev"])
    directory = await look(master, viewer, realm)
    node = directory.by_name("seen")
    assert node is not None and node.taints == node.worn == {"dev", "eu"}
    assert directory.may_talk(bytes.fromhex(viewer["node_id"]), node.node_id)


# ---- expired and renewed ---------------------------------------------------------------------------------------------


async def test_an_expired_node_is_out_until_it_is_renewed_as_it_was(master: Master) -> None:
    realm = await master.realm()
    viewer, relay = await conflux(master, "viewer"), await master.enrol("relay")
    await master.request("POST", "/realms/lab/edges", json={"a": "viewer", "b": "relay"}, status=201)
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    replica = replica_of(body, viewer, realm, master.clock.now)
    path = f"/nodes/{relay['id']}"
    before = await master.request("GET", path)
    expired = await master.request("POST", f"{path}:expire")
    assert expired["state"] == "expired" and expired["certificate_expires_at"] == expired["expired_at"]
    assert expired == await master.request("POST", f"{path}:expire")
    later = {"expires_at": "2400-01-01T00:00:00Z"}
    assert (await master.request("POST", f"{path}:expire", json=later, status=409))["code"] == "node-expired"
    assert names(await look(master, viewer, realm, replica)) == {"viewer"}
    for method, own in (("GET", "/node/snapshot"), ("PUT", "/node/descriptor")):
        problem = await master.request(
            method, own, headers=node_headers(relay), json=Identity().descriptor() if method == "PUT" else None,
            status=403)  # fmt: skip
        assert problem["code"] == "node-expired"
    listed = await master.request("GET", "/nodes", params={"state": "expired"})
    assert [item["name"] for item in listed["items"]] == ["relay"]
    master.clock.now += 5
    renewed = await master.request("POST", f"{path}:renew")
    assert (renewed["state"], renewed["ipv4"], renewed["name"]) == ("active", before["ipv4"], "relay")
    directory = await look(master, viewer, realm, replica)
    assert names(directory) == {"viewer", "relay"} and len(directory.edges) == 1
    assert names(await look(master, relay, realm)) == {"viewer", "relay"}
    certificate = (await master.request("GET", path))["certificate_expires_at"]
    assert datetime.fromisoformat(certificate).timestamp() > START + 5
    await master.request("POST", f"{path}:revoke")
    for step in ("expire", "renew", "drain", "undrain", "approve"):
        assert (await master.request("POST", f"{path}:{step}", status=409))["code"] == "node-revoked"


async def test_a_certificate_ends_no_later_than_its_node_is_to_expire(master: Master) -> None:
    realm = await master.realm()
    viewer, relay = await conflux(master, "viewer"), await master.enrol("relay")
    await look(master, viewer, realm)
    end = START + 3600
    at = datetime.fromtimestamp(end, UTC).isoformat()
    planned = await master.request("POST", f"/nodes/{relay['id']}:expire", json={"expires_at": at})
    assert planned["state"] == "active" and datetime.fromisoformat(planned["expires_at"]).timestamp() == end
    for _ in range(2):
        directory = await look(master, viewer, realm)
        node = directory.by_name("relay")
        assert node is not None and node.not_after == end
    master.clock.now = end  # nobody does anything: the certificate is over
    assert names(await look(master, viewer, realm)) == {"viewer"}
    await master.request("POST", f"/nodes/{relay['id']}:renew")
    assert names(await look(master, viewer, realm)) == {"viewer", "relay"}
    for wrong in ("2030-01-01T00:00:00", "9999-01-01T00:00:00Z", "soon"):
        refused = await master.request("POST", f"/nodes/{relay['id']}:expire", json={"expires_at": wrong}, status=422)
        assert refused["errors"][0]["pointer"] == "/expires_at"


async def test_an_expired_node_enrols_again_and_keeps_its_place(master: Master) -> None:
    await master.realm()
    identity = Identity()
    first = await master.enrol("one", identity=identity)
    await master.enrol("two")
    await master.request("POST", "/realms/lab/edges", json={"a": "one", "b": "two"}, status=201)
    await master.request("POST", f"/nodes/{first['id']}:expire")
    spent = await master.token()
    await master.enrol("other", token=spent)
    await master.enrol("one", token=spent, identity=identity, status=403)
    named = await master.token(node_name="else")
    await master.enrol("one", token=named, identity=identity, status=409)
    again = await master.enrol("any", token=await master.token(auto_taints=["dev"]), identity=identity)
    assert (again["id"], again["name"], again["ipv4"]) == (first["id"], "one", first["ipv4"])
    assert json.loads(base64.b64decode(again["certificate"]["payload"]))["taints"] == ["dev"]
    assert (await master.request("GET", f"/nodes/{first['id']}"))["state"] == "active"
    await master.request("GET", "/node/snapshot", headers=node_headers(again))
    assert len((await master.request("GET", "/realms/lab/edges"))["items"]) == 1
    await master.request("GET", "/node/snapshot", headers=node_headers(first), status=401)
    await master.request("POST", f"/nodes/{first['id']}:expire")
    waiting = await master.enrol("any", token=await master.token(requires_approval=True), identity=identity)
    assert (await master.request("GET", f"/nodes/{first['id']}"))["state"] == "pending"
    other = await master.enrol("viewer")
    assert "until" in (await entries(master, other)).get(waiting["node_id"], {"until": 0})


async def test_no_token_of_another_realm_lets_an_expired_or_deleted_node_in(master: Master) -> None:
    await master.realm()
    await master.realm("other")
    for number, step in enumerate(("expire", "delete")):
        identity = Identity()
        node = await master.enrol(f"n{number}", identity=identity)
        if step == "expire":
            await master.request("POST", f"/nodes/{node['id']}:expire")
        else:
            await master.change("DELETE", f"/nodes/{node['id']}", status=204)
        foreign = await master.token("other")
        await master.enrol(f"n{number}", token=foreign, identity=identity, status=409)
    assert (await master.request("GET", "/nodes", params={"realm": "other"}))["items"] == []


async def test_a_node_whose_credential_lapsed_is_renewed(master: Master) -> None:
    await master.realm()
    identity = Identity()
    node = await master.enrol("one", identity=identity)
    settings = master.context.settings
    master.clock.now += settings.certificate_seconds + settings.grace_seconds + 1
    fresh = identity.descriptor(serial=2, now=master.clock.now)
    await master.request("PUT", "/node/descriptor", json=fresh, headers=node_headers(node), status=403)
    await master.request("POST", f"/nodes/{node['id']}:renew")
    await master.request("PUT", "/node/descriptor", json=fresh, headers=node_headers(node))
    body = await master.request("GET", "/node/snapshot", headers=node_headers(node))
    assert body["records"]
    found = (await master.request("GET", f"/nodes/{node['id']}"))["certificate_expires_at"]
    assert datetime.fromisoformat(found).timestamp() == master.clock.now + settings.certificate_seconds


# ---- drained ---------------------------------------------------------------------------------------------------------


async def test_draining_is_signed_into_the_record_and_changes_nothing_else(master: Master) -> None:
    realm = await master.realm()
    viewer, relay = await conflux(master, "viewer"), await master.enrol("relay")
    path = f"/nodes/{relay['id']}"
    plain = (await entries(master, viewer))[relay["node_id"]]
    assert "draining" not in plain, "older nodes refuse fields that they do not know"
    drained = await master.request("POST", f"{path}:drain")
    assert drained["draining"] and drained["drained_at"] is not None and drained["state"] == "active"
    entry = (await entries(master, viewer))[relay["node_id"]]
    assert entry["draining"] is True and entry["cert"] == plain["cert"]
    node = (await look(master, viewer, realm)).by_name("relay")
    assert node is not None and node.draining
    assert [item["name"] for item in (await master.request("GET", "/guardians", params={"draining": "true"}))["items"]]
    await master.request("POST", f"/guardians/{relay['id']}:undrain")
    assert "draining" not in (await entries(master, viewer))[relay["node_id"]]
    node = (await look(master, viewer, realm)).by_name("relay")
    assert node is not None and not node.draining
    assert (await master.request("POST", f"/nodes/{viewer['id']}:drain", status=409))["code"] == "not-a-guardian"
    await master.request("POST", f"/guardians/{viewer['id']}:drain", status=404)


# ---- deleted ---------------------------------------------------------------------------------------------------------


async def test_a_deleted_node_is_in_no_list_and_the_audit_keeps_it(master: Master) -> None:
    realm = await master.realm()
    viewer = await conflux(master, "viewer")
    identity = Identity()
    node = await master.enrol("one", identity=identity)
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    replica = replica_of(body, viewer, realm, master.clock.now)
    path = f"/nodes/{node['id']}"
    await master.request("DELETE", path, status=428)
    await master.change("DELETE", path, status=204)
    await master.request("DELETE", path, headers={**master.admin, "If-Match": "*"}, status=404)
    await master.request("GET", path, status=404)
    await master.request("POST", f"{path}:approve", status=404)
    for params in ({}, {"state": "revoked"}):
        assert node["id"] not in str(await master.request("GET", "/nodes", params=params))
    assert names(await look(master, viewer, realm, replica)) == {"viewer"}
    await master.request("GET", "/node/snapshot", headers=node_headers(node), status=403)
    audit = await master.request("GET", "/audit-events", params={"subject": node["id"], "action": "delete_node"})
    (entry,) = audit["items"]
    assert entry["changes"]["name"] == ["one", None]
    taken = await master.enrol("one")
    assert taken["ipv4"] != node["ipv4"]
    again = await master.enrol("one-again", identity=identity)
    assert again["id"] == node["id"] and again["ipv4"] == node["ipv4"]
    assert names(await look(master, viewer, realm, replica)) == {"viewer", "one", "one-again"}
    assert (await master.request("GET", path))["state"] == "active"


async def test_a_revoked_node_can_be_deleted_and_its_identity_come_back(master: Master) -> None:
    await master.realm()
    identity = Identity()
    node = await master.enrol("one", identity=identity)
    await master.request("POST", f"/nodes/{node['id']}:revoke")
    assert (await master.enrol("one", identity=identity, status=403))["code"] == "node-revoked"
    await master.change("DELETE", f"/nodes/{node['id']}", status=204)
    await master.enrol("one", identity=identity)


@pytest.mark.parametrize("other", [":drain", ":expire", ":renew", ":approve", "DELETE"])
async def test_what_meets_a_deletion_ends_in_one_order_or_the_other(master: Master, other: str) -> None:
    """Never a half of both, and never a server error."""
    await master.realm()
    headers = {**master.admin, "If-Match": "*"}
    for number in range(6):
        node = await master.enrol(f"n{number}")
        path = f"/api/v1/nodes/{node['id']}"
        deletion = master.client.delete(path, headers=headers)
        meeting = (
            master.client.delete(path, headers=headers)
            if other == "DELETE"
            else master.client.post(path + other, headers=headers)
        )
        pair = (deletion, meeting) if number % 2 else (meeting, deletion)
        answers = await asyncio.gather(*pair)
        deleted, met = answers if number % 2 else answers[::-1]
        statuses = {deleted.status_code, met.status_code}
        assert statuses in ({204, 200}, {204, 404}), [answer.text for answer in answers]
        await master.request("GET", f"/nodes/{node['id']}", status=404)
    left = await master.request("GET", "/nodes")
    assert left["items"] == []


async def test_who_was_away_learns_who_is_gone_also_if_it_sees_others_now(master: Master) -> None:
    """A channel that opens with everything, because the node's own taints changed, still brings the tombstones."""
    realm = await master.realm()
    viewer, leaving = await conflux(master, "viewer"), await conflux(master, "leaving")
    body = await master.request("GET", "/node/snapshot", headers=node_headers(viewer))
    replica = replica_of(body, viewer, realm, master.clock.now)
    assert names(replica.directory(master.clock.now)) == {"viewer", "leaving"}
    await master.request("POST", f"/nodes/{leaving['id']}:revoke")
    await master.request("PUT", f"/nodes/{viewer['id']}/taints", json={"taints": ["dev"]},
                         headers={**master.admin, "If-Match": "*"})  # fmt: skip
    directory = await look(master, viewer, realm, replica)
    assert names(directory) == {"viewer"}
    assert bytes.fromhex(leaving["node_id"]) in {
        node for node, record in replica._records.items() if record.certificate is None
    }


async def test_a_descriptor_does_not_wait_for_an_administrators_change(master: Master) -> None:
    """Or they would deadlock: one has the realm's row and wants the node's, the other the node's and refers to the
    realm's by a foreign key."""
    context = master.context
    if context.engine.dialect.name == "sqlite":
        return  # it has one writer at a time
    realm = await master.realm()
    node = await master.enrol("relay")
    async with write_session(context.engine, context.hub) as admins:
        await RealmRepository(admins).locked(realm["id"])
        async with asyncio.timeout(PATIENCE), write_session(context.engine, context.hub) as nodes:
            assert await NodeRepository(nodes).described(node["id"])
            await DirectoryRepository(nodes).mark(realm["id"], [node["id"]])


async def test_a_node_that_speaks_while_it_is_changed_deadlocks_with_nobody(master: Master) -> None:
    """Its descriptor locks its row and refers to the realm's; an administrator's change locks the realm first."""
    await master.realm()
    identity = Identity()
    node = await master.enrol("relay", identity=identity)
    path, headers = f"/api/v1/nodes/{node['id']}", node_headers(node)
    for number in range(8):
        fresh = identity.descriptor(serial=number + 2)
        step = ("drain", "undrain")[number % 2]
        answers = await asyncio.gather(
            *(master.client.post(f"{path}:{step}", headers=master.admin) for _ in range(3)),
            *(master.client.put("/api/v1/node/descriptor", headers=headers, json=fresh) for _ in range(3)),
            master.client.get("/api/v1/node/snapshot", headers=headers),
        )
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
