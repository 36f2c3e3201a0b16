# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import base64
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from tests.api.conftest import START, Identity, Master, node_headers
from veilnet.api.enrolment.service import free_ipv4
from veilnet.api.errors import Conflict
from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.protocol.directory import CERT_CONTEXT, key_id, verify_certificate
from veilnet.protocol.enrolment import ENROL_CONTEXT
from veilnet.protocol.envelope import canonical_json, encode_base64, read_envelope, sign_document, strict_json
from veilnet.protocol.trust import Trust


async def test_certificate_says_what_token_and_realm_say(master: Master) -> None:
    realm = await master.realm()
    identity = Identity()
    enrolled = await master.enrol("one", token=await master.token(roles=["conflux", "guardian"]), identity=identity)
    certificate = verify_certificate(enrolled["certificate"], Trust.root(base64.b64decode(enrolled["ca_key"])), START)
    assert certificate.key == identity.key
    assert certificate.realm.hex() == realm["realm"]
    assert certificate.roles == {"guardian", "conflux"}
    assert certificate.ipv4 == IPv4Address("10.90.0.1")
    assert certificate.ipv6 in IPv6Network(realm["ipv6_prefix"])
    assert certificate.ipv6 == IPv6Address(enrolled["ipv6"])
    assert enrolled["node_id"] == key_id(identity.key).hex()


async def test_addresses_are_unique_and_come_back_after_revocation(master: Master) -> None:
    await master.realm(ipv4_range="10.1.0.0/28")
    token = await master.token(usage_limit=None)
    nodes = [await master.enrol(f"node-{number}", token=token) for number in range(14)]
    assert [node["ipv4"] for node in nodes] == [f"10.1.0.{number}" for number in range(1, 15)]
    assert (await master.enrol("late", token=token, status=409))["code"] == "address-range-full"
    await master.request("POST", f"/nodes/{nodes[4]['id']}:revoke")
    assert (await master.enrol("node-4", token=token))["ipv4"] == "10.1.0.5"


async def test_the_next_node_does_not_get_the_address_of_the_one_before(master: Master) -> None:
    await master.realm(ipv4_range="10.1.0.0/28")
    token = await master.token(usage_limit=None)
    revoked, deleted = [await master.enrol(name, token=token) for name in ("revoked", "deleted")]
    await master.request("POST", f"/nodes/{revoked['id']}:revoke")
    whatever = master.admin | {"If-Match": "*"}
    await master.request("DELETE", f"/nodes/{deleted['id']}", status=204, headers=whatever)
    later = [(await master.enrol(f"next-{number}", token=token))["ipv4"] for number in range(14)]
    assert later == [f"10.1.0.{number}" for number in (*range(3, 15), 1, 2)]
    assert (await master.enrol("late", token=token, status=409))["code"] == "address-range-full"


async def test_a_refused_enrolment_leaves_the_token_unspent(master: Master) -> None:
    await master.realm()
    await master.enrol("one")
    token = await master.token()
    assert (await master.enrol("one", token=token, status=409))["code"] == "name-taken"
    await master.enrol("two", token=token)


async def test_possession_must_be_proven(master: Master) -> None:
    await master.realm()
    await master.realm("other")
    token, other = await master.token(), await master.token("other")
    mine, thief = Identity(), Identity()
    claims = [
        mine.claim(token, name="one", signer=thief.private),
        {**mine.claim(token, name="one", signer=thief.private), "key": key_id(mine.key).hex()},
        mine.claim(other, name="one"),
        mine.claim(token, name="one", realm=other.realm),
        mine.claim(token, name="one", now=START - 301),
        mine.claim(token, name="one", now=START + 301),
        mine.claim(token, name="Bad Name"),
    ]
    for claim in claims:
        problem = await master.enrol("one", token=token, identity=mine, request=claim, status=422)
        assert problem["code"] == "signature-invalid"
    problem = await master.enrol("one", token=token, identity=mine, descriptor=thief.descriptor(), status=422)
    assert problem["code"] == "signature-invalid"
    await master.enrol("one", token=token, identity=mine)


async def test_weak_and_foreign_keys_are_refused(master: Master) -> None:
    """A smaller parameter set, a key of zeros, a signature of another kind of document."""
    await master.realm()
    token, identity = await master.token(), Identity()
    good = identity.claim(token, name="one")
    payload = strict_json(read_envelope(good).payload, 10_000)
    weak = MLDSA44PrivateKey.generate()
    weak_payload = canonical_json({**payload, "key": encode_base64(weak.public_key().public_bytes_raw())})
    weak_sig = weak.sign(weak_payload, ENROL_CONTEXT)
    claims: list[dict[str, Any]] = [
        {"payload": encode_base64(weak_payload), "sig": encode_base64(weak_sig), "key": good["key"]},
        {**good, "payload": encode_base64(canonical_json({**payload, "key": encode_base64(bytes(1952))}))},
        sign_document(payload, identity.private, CERT_CONTEXT).as_json(),
        sign_document({**payload, "admin": True}, identity.private, ENROL_CONTEXT).as_json(),
    ]
    for claim in claims:
        problem = await master.enrol("one", token=token, identity=identity, request=claim, status=422)
        assert problem["code"] == "signature-invalid"


async def test_revoked_identity_stays_out(master: Master) -> None:
    await master.realm()
    token, identity = await master.token(usage_limit=None), Identity()
    enrolled = await master.enrol("one", token=token, identity=identity)
    await master.request("POST", f"/nodes/{enrolled['id']}:revoke")
    assert (await master.enrol("one", token=token, identity=identity, status=403))["code"] == "node-revoked"
    problem = await master.request("GET", "/node/snapshot", headers=node_headers(enrolled), status=403)
    assert problem["code"] == "node-revoked"


async def test_identity_does_not_move_to_another_token(master: Master) -> None:
    await master.realm()
    identity = Identity()
    await master.enrol("one", identity=identity)
    assert (await master.enrol("two", identity=identity, status=409))["code"] == "name-taken"


@pytest.mark.parametrize("change", [{"extra": 1}, {"request": {}}, {"secret": 5}, {"descriptor": None}])
async def test_wrong_bodies_are_refused(master: Master, change: dict[str, Any]) -> None:
    await master.realm()
    assert (await master.enrol("one", status=422, **change))["code"] == "invalid"


async def test_enrolments_at_once_share_nothing(master: Master) -> None:
    await master.realm()
    token = await master.token(usage_limit=None)
    nodes = await asyncio.gather(*(master.enrol(f"node-{number}", token=token) for number in range(20)))
    assert len({node["ipv4"] for node in nodes}) == len({node["ipv6"] for node in nodes}) == 20
    single = await master.token()
    bodies = [await enrolment_body(single, name) for name in ("x", "y", "z")]
    answers = await asyncio.gather(*(master.client.post("/api/v1/enrolments", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403]


async def enrolment_body(token: EnrolmentTokenText, name: str) -> dict[str, Any]:
    identity = Identity()
    return {
        "token_id": token.id,
        "secret": token.secret,
        "request": identity.claim(token, name=name),
        "descriptor": identity.descriptor(),
    }


def test_free_address_skips_network_and_broadcast() -> None:
    network = IPv4Network("10.0.0.0/30")
    assert free_ipv4(network, {}) == IPv4Address("10.0.0.1")
    assert free_ipv4(network, {"10.0.0.1": None}) == IPv4Address("10.0.0.2")
    with pytest.raises(Conflict):
        free_ipv4(network, {"10.0.0.1": None, "10.0.0.2": None})


def test_an_address_given_up_comes_last_and_the_latest_one_last_of_all() -> None:
    network = IPv4Network("10.0.0.0/29")
    used = {"10.0.0.1": 30, "10.0.0.2": None, "10.0.0.3": 10, "10.0.0.4": None, "192.0.2.1": 1}
    assert free_ipv4(network, used) == IPv4Address("10.0.0.5")
    assert free_ipv4(network, {**used, "10.0.0.5": None, "10.0.0.6": 20}) == IPv4Address("10.0.0.3")
