# SPDX-License-Identifier: Apache-2.0
"""Rotation of the realm CA, as a node that watches and one that was away see it."""

from __future__ import annotations

import base64
from typing import Any

from tests.api.conftest import START, Master, node_headers
from veilnet.protocol.directory import verify_certificate
from veilnet.protocol.envelope import read_envelope
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust


async def step(master: Master, name: str, status: int = 200) -> Any:
    return await master.request("POST", f"/realms/lab/ca:{name}", status=status)


async def fed(master: Master, enrolled: dict[str, Any], replica: Replica) -> set[str]:
    body = await master.request("GET", "/node/snapshot", headers=node_headers(enrolled))
    replica.take_head(body["head"], START)
    for record in body["records"]:
        replica.take_record(record, START)
    return {node.name for node in replica.directory(START).nodes.values()}


def replica_of(enrolled: dict[str, Any]) -> Replica:
    return Replica(Trust.root(base64.b64decode(enrolled["ca_key"])), bytes.fromhex(enrolled["node_id"]))


async def test_rotation_loses_no_node_for_those_who_watch_and_those_who_were_away(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=None)
    one = await master.enrol("one", token=token)
    await master.enrol("two", token=token)
    watching, away = replica_of(one), replica_of(one)
    assert await fed(master, one, watching) == await fed(master, one, away) == {"one", "two"}
    states = [key["state"] for key in (await step(master, "announce"))["keys"]]
    assert states == ["active", "announced"]
    assert await fed(master, one, watching) == {"one", "two"}
    assert len(watching.trust.keys) == 2
    assert (await step(master, "finish", 409))["code"] == "rotation-order"
    states = [key["state"] for key in (await step(master, "activate"))["keys"]]
    assert states == ["overlapping", "active"]
    assert (await step(master, "finish", 409))["code"] == "rotation-underway"
    assert (await step(master, "announce", 409))["code"] == "rotation-underway"
    three = await master.enrol("three", token=token)  # by a token that pins the first key
    chain = [read_envelope(item) for item in three["ca_chain"]]
    trust = Trust.root(base64.b64decode(three["ca_key"])).extended(chain, 0)
    assert verify_certificate(three["certificate"], trust, START).name == "three"
    assert await fed(master, one, watching) == {"one", "two", "three"}
    assert await fed(master, one, watching) == {"one", "two", "three"}
    assert (await master.request("GET", "/realms/lab/ca"))["remaining"] == 0
    states = [key["state"] for key in (await step(master, "finish"))["keys"]]
    assert states == ["retired", "active"]
    assert await fed(master, one, watching) == {"one", "two", "three"}
    assert watching.trust.retired == 1
    assert await fed(master, one, away) == {"one", "two", "three"}
    assert await fed(master, one, replica_of(three)) == {"one", "two", "three"}
    assert (await step(master, "activate", 409))["code"] == "rotation-order"
