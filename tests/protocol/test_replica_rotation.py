# SPDX-License-Identifier: Apache-2.0
"""The realm CA's key changes hands: nobody is lost, and a stolen key can not turn the chain."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from tests.protocol.realm import NOW, Node, Realm, public
from tests.protocol.replicas import REALM, STRANGERS, names
from veilnet.protocol import directory as d
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import ForkedRealm, Trust, sign_succession


def rotating() -> tuple[Realm, list[Node], Replica]:
    realm = Realm()
    nodes = [Node(realm, 1), Node(realm, 2)]
    found = Replica(realm.trust, nodes[0].id)
    found.take_head(realm.head(), NOW)
    for node in nodes:
        found.take_record(node.record(), NOW)
    realm.keys.append(MLDSA65PrivateKey.generate())
    return realm, nodes, found


def test_ca_is_rotated_without_losing_a_node() -> None:
    realm, (one, two), found = rotating()
    early = two.record(2, signer=1)
    with pytest.raises(d.WrongSigner):
        found.take_record(early, NOW)
    found.take_head(realm.head(2, signer=0), NOW)  # announced by the old key
    assert found.take_record(early, NOW) == two.id  # both count
    assert names(found) == {"node-1", "node-2"}
    found.take_head(realm.head(3, signer=1), NOW)
    assert found.take_record(one.record(3, signer=1, cert_signer=0), NOW) == one.id
    assert names(found) == {"node-1", "node-2"}
    found.take_record(one.record(4, signer=1), NOW)
    realm.retired = 1
    found.take_head(realm.head(5, signer=1), NOW)
    assert names(found) == {"node-1", "node-2"}
    with pytest.raises(d.WrongSigner, match="is retired"):
        found.take_record(two.record(6, signer=0), NOW)
    with pytest.raises(d.WrongSigner, match="is retired"):
        found.take_head(realm.head(6, signer=0), NOW)


def test_node_that_was_away_follows_the_chain() -> None:
    realm, (one, _), found = rotating()
    realm.keys += [MLDSA65PrivateKey.generate() for _ in range(3)]
    realm.retired = 4
    found.take_head(realm.head(9), NOW)
    assert names(found) == set()
    found.take_record(one.record(9), NOW)
    assert names(found) == {"node-1"}
    assert found.trust.keys == tuple(map(public, realm.keys))


def test_retired_certificate_leaves_even_under_a_new_entry() -> None:
    realm, (one, two), found = rotating()
    found.take_head(realm.head(2), NOW)
    found.take_record(one.record(2, cert_signer=0), NOW)
    realm.retired = 1
    found.take_head(realm.head(3), NOW)
    assert names(found) == set()
    with pytest.raises(d.WrongSigner):
        found.take_record(two.record(4, cert_signer=0), NOW)


@pytest.mark.parametrize("case", ["self", "fork", "serial", "shorter", "unretire", "all"])
def test_thief_of_a_key_can_not_turn_the_chain(case: str) -> None:
    realm, _, found = rotating()
    realm.retired = 1
    found.take_head(realm.head(2), NOW)
    before = found.trust
    thief = MLDSA65PrivateKey.generate()
    old, new = realm.keys

    def step(signer: MLDSA65PrivateKey, serial: int = 1) -> d.Envelope:
        return sign_succession(realm=realm.id, serial=serial, key=public(thief), issued=NOW, signer=signer)

    chains: dict[str, tuple[list[d.Envelope], int, type[d.DirectoryError]]] = {
        "self": ([*realm.chain(), step(thief, 2)], 2, d.WrongSigner),
        "fork": ([step(old)], 1, ForkedRealm),
        "serial": ([*realm.chain(), step(new, 3)], 1, d.MalformedDocument),
        "shorter": ([], 0, d.Rollback),
        "unretire": (realm.chain(), 0, d.Rollback),
        "all": (realm.chain(), 2, d.MalformedDocument),
    }
    chain, retired, error = chains[case]
    realm.keys.append(thief)
    with pytest.raises(d.DirectoryError) as caught:
        found.take_head(realm.head(3, chain=chain, retired=retired), NOW)
    assert caught.type is error
    assert found.trust == before
    assert found.head is not None and found.head.version == 2


def test_trust_is_kept_only_with_a_signed_head() -> None:
    """A right chain under a head that nobody signed changes nothing."""
    realm, _, found = rotating()
    head = realm.head(2)
    forged = {**head, "sig": realm.head(3)["sig"]}
    with pytest.raises(d.BadSignature):
        found.take_head(forged, NOW)
    assert len(found.trust.keys) == 1


def test_root_must_be_the_key_that_the_realm_id_names() -> None:
    with pytest.raises(d.WrongSigner):
        Trust.root(public(REALM.keys[0]), STRANGERS.id)
