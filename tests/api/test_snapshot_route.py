# SPDX-License-Identifier: Apache-2.0
"""What `GET /node/snapshot` gives a node, and when: renewal before the end, grace after it, a clock that went back."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master, node_headers
from veilnet.protocol.directory import DirectoryError
from veilnet.protocol.envelope import read_envelope, strict_json
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust


def replica_of(body: Any, enrolled: dict[str, Any], realm: dict[str, Any], now: int) -> Replica:
    trust = Trust.root(base64.b64decode(enrolled["ca_key"]), bytes.fromhex(realm["realm"]))
    replica = Replica(trust, bytes.fromhex(enrolled["node_id"]), version=body["version"])
    replica.take_head(body["head"], now)
    for record in body["records"]:
        replica.take_record(record, now)
    return replica


async def test_snapshot_of_the_rest_endpoint_verifies_and_rises(master: Master) -> None:
    realm = await master.realm()
    enrolled = await master.enrol("one")
    versions = []
    for name in ("two", "three"):
        body = await master.request("GET", "/node/snapshot", headers=node_headers(enrolled))
        directory = replica_of(body, enrolled, realm, START).directory(START)
        versions.append(directory.version)
        await master.enrol(name)
    assert versions == sorted(set(versions))
    assert directory.settings["rekey_interval"] == 120
    assert {node.name for node in directory.nodes.values()} == {"one", "two"}


async def test_certificates_and_head_are_renewed_before_they_end(master: Master) -> None:
    realm = await master.realm()
    identity = Identity()
    enrolled = await master.enrol("one", identity=identity)
    headers = node_headers(enrolled)
    await master.request("GET", "/node/snapshot", headers=headers)
    life = master.context.settings.certificate_seconds
    master.clock.now += life // 2 + 1
    fresh = identity.descriptor(serial=2, now=master.clock.now, life=4 * life)
    await master.request("PUT", "/node/descriptor", json=fresh, headers=headers)
    body = await master.request("GET", "/node/snapshot", headers=headers)
    later = master.clock.now + life - 1
    directory = replica_of(body, enrolled, realm, master.clock.now).directory(later)
    assert {node.not_after for node in directory.nodes.values()} == {later + 1}
    certificate = strict_json(read_envelope(body["records"][0]["cert"]).payload, 16_000)
    assert certificate["serial"] == 2


async def test_late_node_comes_back_within_its_grace_and_not_after(master: Master) -> None:
    await master.realm()
    identity = Identity()
    enrolled = await master.enrol("one", identity=identity)
    headers, settings = node_headers(enrolled), master.context.settings
    master.clock.now += settings.certificate_seconds + settings.grace_seconds
    fresh = identity.descriptor(serial=2, now=master.clock.now)
    await master.request("PUT", "/node/descriptor", json=fresh, headers=headers)
    body = await master.request("GET", "/node/snapshot", headers=headers)
    assert strict_json(read_envelope(body["records"][0]["cert"]).payload, 16_000)["not_after"] > master.clock.now
    master.clock.now += settings.certificate_seconds + settings.grace_seconds + 1
    refused = await master.request("GET", "/node/snapshot", headers=headers, status=403)
    assert refused["code"] == "certificate-lapsed"
    later = identity.descriptor(serial=3, now=master.clock.now)
    refused = await master.request("PUT", "/node/descriptor", json=later, headers=headers, status=403)
    assert refused["code"] == "certificate-lapsed"


async def test_master_whose_clock_went_back_signs_nothing(master: Master) -> None:
    realm = await master.realm()
    enrolled = await master.enrol("one")
    headers = node_headers(enrolled)
    body = await master.request("GET", "/node/snapshot", headers=headers)
    master.clock.now -= 3600
    await master.enrol("two")
    again = await master.request("GET", "/node/snapshot", headers=headers)
    assert again["records"] == body["records"]
    master.clock.now += 3600
    after = await master.request("GET", "/node/snapshot", headers=headers)
    with pytest.raises(DirectoryError):
        replica_of(after, enrolled, realm | {"realm": "00" * 16}, START)
    assert len(replica_of(after, enrolled, realm, START).directory(START).nodes) == 2
