# SPDX-License-Identifier: Apache-2.0
"""Heads and records of section 10 as a node takes them: what counts, and what is refused by name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from tests.protocol.realm import NOW, Node
from tests.protocol.replicas import C1, C2, DEV, EU, G1, G2, G3, REALM, STRANGERS, names, replica
from veilnet.protocol import directory as d
from veilnet.protocol.envelope import read_envelope, sign_document, strict_json
from veilnet.protocol.policy import read_policy
from veilnet.protocol.records import (
    ENTRY_CONTEXT,
    RECORD_MAX,
    Entry,
    edge_owner,
    open_head,
    open_record,
    record_json,
    sign_entry,
)
from veilnet.protocol.replica import FORGET_AFTER, Replica

# ---- what counts -------------------------------------------------------------------------------------------------


def test_directory_holds_what_went_in() -> None:
    found = replica(G1, G1.record(), G2.record(edges=(G1.id,)), G3.record(edges=(G2.id,)))
    directory = found.directory(NOW)
    assert directory.nodes.keys() == {G1.id, G2.id, G3.id}
    assert (directory.realm, directory.settings, directory.dropped) == (REALM.id, {"min_guardians": 2}, 0)
    view = directory.nodes[G2.id]
    assert (view.x25519, view.mlkem768, view.knock_seed) == (b"\x02" * 32, b"\x02" * 1184, b"\x02" * 32)
    assert (view.endpoints, view.not_after) == (((IPv4Address("192.0.2.1"), 4002),), NOW + 500)
    assert directory.neighbours(G2.id) == {G1.id, G3.id}
    assert directory.by_overlay(IPv4Address("10.90.0.3")) == directory.nodes[G3.id]
    assert directory.by_overlay(IPv6Address("fd00::1")) == directory.nodes[G1.id]
    assert directory.by_name("node-2") == view


def test_without_a_head_nothing_is_in_force() -> None:
    found = Replica(REALM.trust, G1.id)
    found.take_record(G1.record(), NOW)
    assert not found.directory(NOW).nodes


def test_newer_record_takes_the_place_of_the_older_and_the_same_changes_nothing() -> None:
    found = replica(G1, G1.record(), G2.record(2, edges=(G1.id,)))
    assert found.take_record(G2.record(2), NOW) is None
    assert found.take_record(G2.record(3, serial=2), NOW) == G2.id
    directory = found.directory(NOW)
    assert (directory.nodes[G2.id].serial, directory.edges) == (2, frozenset())


def test_removed_node_is_gone_and_stays_gone() -> None:
    found = replica(G1, G1.record(), G2.record())
    assert found.take_record(G2.gone(5), NOW) == G2.id
    assert names(found) == {"node-1"}
    with pytest.raises(d.Rollback):
        found.take_record(G2.record(4), NOW)
    assert names(found) == {"node-1"}


@pytest.mark.parametrize("clash", ["ipv4", "ipv6", "name"])
def test_of_two_that_claim_the_same_the_newer_record_counts(clash: str) -> None:
    found = replica(G1, G2.record(2), G3.record(3, cert={clash: getattr(G2.certificate, clash)}))
    assert found.directory(NOW).nodes.keys() == {G3.id}
    assert found.directory(NOW).dropped == 1


# ---- visibility --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        (G1, {"node-1", "node-2", "node-3", "node-4"}),  # Guardians, and its neighbour C1
        (C1, {"node-1", "node-2", "node-3", "node-4", "node-5"}),
        (DEV, {"node-1", "node-2", "node-3", "node-6"}),
        (G3, {"node-1", "node-2", "node-3"}),
    ],
)
def test_node_uses_only_what_it_may_need(own: Node, seen: set[str]) -> None:
    """Even if it was told more."""
    nodes = [G1.record(), G2.record(), G3.record(), C1.record(edges=(G1.id,)), C2.record(), DEV.record(), EU.record()]
    assert names(replica(own, *nodes)) == seen


def test_policy_of_a_newer_head_changes_what_is_seen() -> None:
    found = replica(DEV, DEV.record(), EU.record())
    assert names(found) == {"node-6"}
    rule = {"name": "r", "effect": "allow", "between": ["taint:dev"], "and": ["taint:eu"]}
    found.take_head(REALM.head(2, policy=read_policy({"rules": [rule]})), NOW)
    assert names(found) == {"node-6", "node-7"}


def test_node_can_wear_less_and_not_more() -> None:
    worn = DEV.record(2, taints=frozenset({"eu"}))
    view = replica(DEV, worn, EU.record()).directory(NOW).nodes[DEV.id]
    assert (view.taints, view.worn) == (frozenset({"dev"}), frozenset())
    assert names(replica(EU, EU.record(), worn)) == {"node-7"}


def test_edge_stands_in_one_record() -> None:
    assert edge_owner(C1.id, False, G1.id, True) == edge_owner(G1.id, True, C1.id, False) == C1.id
    assert edge_owner(G1.id, True, G2.id, True) == edge_owner(G2.id, True, G1.id, True) == min(G1.id, G2.id)


# ---- refused -----------------------------------------------------------------------------------------------------


def mixed(one: dict[str, Any], other: dict[str, Any], part: str) -> dict[str, Any]:
    return {**one, part: other[part]}


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (Node(STRANGERS, 8).record(), d.WrongSigner),
        (mixed(G2.record(2), G3.record(2), "cert"), d.WrongSigner),
        (mixed(G2.record(2), G3.record(2), "descriptor"), d.WrongSigner),
        (mixed(G2.record(2), G2.record(1, serial=9), "descriptor"), d.WrongSigner),
        (mixed(G2.record(2), G3.record(2), "entry"), d.WrongSigner),
        (G2.record(0), d.Rollback),
        ({**G2.record(2), "more": 1}, d.MalformedDocument),
        ({"entry": G2.record(2)["entry"]}, d.MalformedDocument),
        ({**G2.gone(2), "cert": G2.record(2)["cert"]}, d.MalformedDocument),
        ({"entry": REALM.head()}, d.BadSignature),
        ({"entry": G2.record(2)["cert"]}, d.BadSignature),
    ],
)
def test_bad_records_are_refused_by_name_and_leave_the_rest(record: Any, error: type[d.DirectoryError]) -> None:
    found = replica(G1, G1.record(), G2.record())
    with pytest.raises(d.DirectoryError) as caught:
        found.take_record(record, NOW)
    assert caught.type is error
    assert names(found) == {"node-1", "node-2"}


def test_entry_of_another_realm_under_our_key_is_refused() -> None:
    entry = Entry(G2.id, 9, NOW, until=NOW)
    with pytest.raises(d.WrongRealm):
        open_record(record_json(sign_entry(entry, STRANGERS.id, REALM.keys[0])), REALM.trust)
    with pytest.raises(d.WrongRealm):
        open_head(REALM.head(realm=STRANGERS.id), REALM.trust)


def test_heads_do_not_roll_back() -> None:
    found = replica(G1, head=REALM.head(7))
    assert found.take_head(REALM.head(7), NOW) is False
    with pytest.raises(d.Rollback):
        found.take_head(REALM.head(6), NOW)
    with pytest.raises(d.WrongSigner):
        found.take_head(STRANGERS.head(8), NOW)
    assert found.take_head(REALM.head(8, expires=NOW), NOW)
    assert "head-ended" in (found.clock_fault(NOW) or "")


def test_a_signature_counts_for_its_kind_of_document_only() -> None:
    payload = strict_json(read_envelope(REALM.head()).payload, RECORD_MAX)
    with pytest.raises(d.BadSignature):
        open_head(sign_document(payload, REALM.keys[0], ENTRY_CONTEXT).as_json(), REALM.trust)


# ---- time --------------------------------------------------------------------------------------------------------


def test_what_has_run_out_leaves_by_itself() -> None:
    found = replica(G1, G1.record(expires=NOW + 900), G2.record())
    assert names(found, NOW + 499) == {"node-1", "node-2"}
    assert names(found, NOW + 500) == {"node-1"}
    assert names(found, NOW + 900) == set()


def test_clock_set_back_revives_nothing() -> None:
    found = replica(G1, G1.record(expires=NOW + 900), G2.record())
    found.take_head(REALM.head(2, issued=NOW + 600), NOW + 600)
    assert found.floor == NOW + 600
    assert names(found, NOW) == names(found, 0) == {"node-1"}
    assert "clock-behind" in (found.clock_fault(NOW) or "")
    again = Replica(REALM.trust, G1.id, floor=found.floor)
    again.take_head(REALM.head(2, issued=NOW + 600), NOW)
    again.take_record(G2.record(), NOW)
    assert names(again, NOW) == set()


def test_document_from_the_future_waits_and_locks_nobody_out() -> None:
    found = replica(G1, G1.record())
    late = NOW + 10 * 365 * 86400
    found.take_head(REALM.head(2, issued=late, expires=late + 9), NOW)
    found.take_record(G2.record(2, issued=late), NOW)
    assert found.floor == NOW - 1
    assert names(found) == {"node-1"}


def test_wrong_clock_costs_nothing_for_good() -> None:
    """A record that came while the clock was far behind counts as soon as the clock is right."""
    found = Replica(REALM.trust, G1.id)
    found.take_head(REALM.head(), 0)
    found.take_record(G1.record(), 0)
    assert names(found, 0) == set()
    assert names(found, NOW) == {"node-1"}
    assert names(found, NOW + 10**8) == set()
    assert names(found, NOW) == {"node-1"}


def test_clock_fault_names_what_differs() -> None:
    found = replica()
    assert found.clock_fault(NOW, NOW + 299) is None
    assert "ahead of" in (found.clock_fault(NOW + 5000, NOW) or "")
    assert "behind the Master" in (found.clock_fault(NOW, NOW + 5000) or "")


def test_old_records_are_forgotten_by_signed_time_alone() -> None:
    """A clock that runs years ahead for a while must not empty the directory: nobody would send it again."""
    found = replica(G1, G1.record(expires=NOW + 900), G2.gone(1, until=NOW))
    assert names(found, NOW + 10**9) == set()
    assert found.forget() == []
    found.take_head(REALM.head(2, issued=NOW + FORGET_AFTER), NOW + FORGET_AFTER)
    assert found.forget() == []
    found.take_head(REALM.head(3, issued=NOW + FORGET_AFTER + 1), NOW + FORGET_AFTER)
    assert found.forget() == [G2.id]
