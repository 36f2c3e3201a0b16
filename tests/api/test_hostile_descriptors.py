# SPDX-License-Identifier: Apache-2.0
"""A member signs its descriptor itself: whatever it signs, the Master refuses it by name or hands on something that
counts for this member alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master, node_headers
from veilnet.protocol.directory import DESCRIPTOR_CONTEXT, key_id
from veilnet.protocol.envelope import encode_base64, read_envelope, sign_document, strict_json

FIELDS: dict[str, Any] = {
    "serial": 5,
    "x25519": encode_base64(bytes(32)),
    "mlkem768": encode_base64(bytes(1184)),
    "knock": encode_base64(bytes(32)),
    "endpoints": [["192.0.2.7", 51]],
    "issued": START,
    "expires": START + 86400,
}


@pytest.mark.parametrize(
    "change",
    [
        {"expires": 2**62},
        {"expires": 2**63},
        {"expires": START},
        {"issued": START + 301},
        {"serial": -1},
        {"serial": True},
        {"serial": 10**400},
        {"taints": "dev"},
        {"taints": ["Not A Taint"]},
        {"taints": ["a"] * 33},
        {"taints": [["a"]]},
        {"endpoints": [["192.0.2.7", 51]] * 9},
        {"endpoints": [["::", 51]]},
        {"endpoints": [["192.0.2.7", 1.5]]},
        {"endpoints": {}},
        {"x25519": ""},
        {"knock": None},
        {"node": "00" * 16},
        {"more": {}},
    ],
)
async def test_hostile_descriptor_is_refused(master: Master, change: dict[str, Any]) -> None:
    await master.realm()
    identity = Identity()
    enrolled = await master.enrol("one", identity=identity)
    document = {"node": key_id(identity.key).hex(), **FIELDS, **change}
    try:
        signed = sign_document(document, identity.private, DESCRIPTOR_CONTEXT).as_json()
    except ValueError:  # a number that Python does not print
        return
    refused = await master.request("PUT", "/node/descriptor", json=signed, headers=node_headers(enrolled), status=422)
    assert refused["code"] in {"signature-invalid", "invalid"}


async def test_member_that_claims_taints_gets_none(master: Master) -> None:
    """It may say what it likes: only what was granted is worn, so nobody sees more of it, nor it of them."""
    await master.realm()
    token = await master.token(roles=["conflux"], usage_limit=None)
    identity = Identity()
    hostile = await master.enrol("hostile", token=token, identity=identity)
    victim = await master.enrol("victim", token=token)
    headers = {**master.admin, "If-Match": "*"}
    for node, taints in ((victim, ["secret"]), (hostile, ["public"])):
        await master.request("PUT", f"/nodes/{node['id']}/taints", json={"taints": taints}, headers=headers)
    document = {"node": key_id(identity.key).hex(), **FIELDS, "taints": ["secret", "public"]}
    signed = sign_document(document, identity.private, DESCRIPTOR_CONTEXT).as_json()
    await master.request("PUT", "/node/descriptor", json=signed, headers=node_headers(hostile))
    for node in (hostile, victim):
        body = await master.request("GET", "/node/snapshot", headers=node_headers(node))
        sent = [strict_json(read_envelope(record["entry"]).payload, 10**6)["node"] for record in body["records"]]
        assert sent == [node["node_id"]]
