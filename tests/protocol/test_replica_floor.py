# SPDX-License-Identifier: Apache-2.0
"""After a restore of the Master: when the head's floor counts, and what it shuts out (ID9)."""

from __future__ import annotations

import pytest

from tests.protocol.realm import NOW
from tests.protocol.replicas import G1, G2, G3, REALM, STRANGERS, names, replica
from veilnet.protocol.directory import Rollback
from veilnet.protocol.envelope import MalformedDocument, WrongSigner


def test_a_floor_counts_once_all_up_to_its_head_is_here() -> None:
    found = replica(G1, G1.record(5), G2.record(6), G3.record(7))
    found.take_head(REALM.head(103, floor=100), NOW)
    found.reached(102)
    assert found.forget() == [] and names(found) == {"node-1", "node-2", "node-3"}  # nothing is missed meanwhile
    found.take_record(G1.record(101), NOW)
    found.take_record(G2.record(102), NOW)
    found.reached(103)
    assert found.forget() == [G3.id] and names(found) == {"node-1", "node-2"}


def test_what_a_floor_shut_out_stays_out() -> None:
    found = replica(G1, G1.record(5), G2.gone(6), G3.record(7))
    found.take_head(REALM.head(102, floor=100), NOW)
    found.take_record(G1.record(101), NOW)
    found.reached(102)
    found.forget()
    for old in (G3.record(7), G3.record(99), G2.record(8)):
        with pytest.raises(Rollback):
            found.take_record(old, NOW)
    found.take_head(REALM.head(110), NOW)  # a later head that says nothing of it
    found.reached(110)
    with pytest.raises(Rollback):
        found.take_record(G3.record(99), NOW)
    assert found.take_record(G2.record(111), NOW) == G2.id  # alive again by the restored Master's word
    assert names(found) == {"node-1", "node-2"}


def test_only_the_realm_can_raise_it() -> None:
    found = replica(G1, G1.record(5))
    with pytest.raises(WrongSigner):
        found.take_head(STRANGERS.head(200, floor=100, realm=REALM.id), NOW)
    with pytest.raises(MalformedDocument):
        found.take_head(REALM.head(200, floor=201), NOW)
    with pytest.raises(Rollback):
        found.take_head(REALM.head(0, floor=0), NOW)
    found.reached(1000)
    assert found.shut == 0 and found.forget() == []
