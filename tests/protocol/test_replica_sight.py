# SPDX-License-Identifier: Apache-2.0
"""Who went out of sight comes back only by the Master's word: what was held of it may have changed meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.protocol.realm import NOW
from tests.protocol.replicas import DEV, EU, REALM, names, replica
from veilnet.keyd.directory_file import DirectoryFile

BOTH: Final[dict[str, Any]] = {"cert": {"taints": frozenset({"dev", "eu"})}}


def test_out_of_sight_and_back(tmp_path: Path) -> None:
    found = replica(DEV, DEV.record(1, **BOTH), EU.record(2))
    found.reached(2)
    assert names(found) == {"node-6", "node-7"}
    found.take_record(DEV.record(3), NOW)
    found.reached(3)
    assert names(found) == {"node-6"}
    found.take_record(DEV.record(4, **BOTH), NOW)
    found.reached(4)
    assert names(found) == {"node-6"}, "EU may have changed while it was not shown to us"
    disk = DirectoryFile(tmp_path)
    disk.save(found, head=REALM.head(), records=[(DEV.id, DEV.record(4, **BOTH)), (EU.id, EU.record(2))])
    again = disk.load(REALM.trust, DEV.id, NOW)
    assert again.unseen == {EU.id} and names(again) == {"node-6"}
    for copy in (found, again):
        assert copy.take_record(EU.record(2), NOW) == EU.id  # the same again, but now it counts
        copy.reached(4)
        assert names(copy) == {"node-6", "node-7"} and not copy.unseen
        assert copy.take_record(EU.record(2), NOW) is None


def test_a_newer_record_counts_at_once() -> None:
    found = replica(DEV, DEV.record(1), EU.record(2))
    found.reached(2)
    assert found.unseen == {EU.id}
    found.take_record(EU.record(3, **BOTH), NOW)
    found.reached(3)
    assert names(found) == {"node-6", "node-7"}
