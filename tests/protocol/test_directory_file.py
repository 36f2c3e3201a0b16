# SPDX-License-Identifier: Apache-2.0
"""A node's directory on disk: what the disk does not take waits, and what can't be read now is not thrown away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.protocol.realm import NOW, Node
from tests.protocol.replicas import G1, G2, G3, REALM, names, replica
from veilnet.keyd import directory_file
from veilnet.keyd.directory_file import DirectoryFile
from veilnet.keyd.node_files import NodeError
from veilnet.protocol.replica import Replica

G4, G5 = Node(REALM, 4), Node(REALM, 5)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryFile:
    monkeypatch.setattr(directory_file, "LOAD_PATIENCE", 0.01)
    monkeypatch.setattr(directory_file, "SAVE_PATIENCE", 0.01)
    found = DirectoryFile(tmp_path)
    found.load(REALM.trust, G1.id, NOW)
    return found


@contextmanager
def held(tmp_path: Path, how: str) -> Iterator[None]:
    with closing(sqlite3.connect(tmp_path / "directory.db", isolation_level=None)) as other:
        other.execute(f"BEGIN {how}")
        yield


def loaded(tmp_path: Path) -> Replica:
    return DirectoryFile(tmp_path).load(REALM.trust, G1.id, NOW)


def test_what_was_not_taken_goes_with_the_next(tmp_path: Path, disk: DirectoryFile) -> None:
    found = replica(G1, G2.record(1), G3.record(1), G4.record(1))
    disk.save(found, head=REALM.head(), records=[(node.id, node.record(1)) for node in (G2, G3, G4)])
    with held(tmp_path, "IMMEDIATE"):
        found.take_record(G5.record(2), NOW)
        found.reached(2)
        disk.save(found, records=[(G5.id, G5.record(2))], forgotten=[G4.id])
        disk.save(found, forgotten=[G3.id])
        assert "locked" in disk.fault
        assert loaded(tmp_path).version == 0 and names(loaded(tmp_path)) == {"node-2", "node-3", "node-4"}
    found.take_record(G3.record(3), NOW)
    found.reached(3)
    disk.save(found, records=[(G3.id, G3.record(3))])
    again = loaded(tmp_path)
    assert disk.fault == "" and again.version == 3 and names(again) == {"node-2", "node-3", "node-5"}


def test_a_head_waits_too(tmp_path: Path, disk: DirectoryFile) -> None:
    found = replica(G1, G2.record(1))
    disk.save(found, head=REALM.head(), records=[(G2.id, G2.record(1))])
    newer = REALM.head(version=5)
    with held(tmp_path, "IMMEDIATE"):
        assert found.take_head(newer, NOW)
        disk.save(found, head=newer)
    disk.save(found)
    head = loaded(tmp_path).head
    assert head is not None and head.version == 5


def test_a_file_that_is_locked_is_not_thrown_away(tmp_path: Path, disk: DirectoryFile) -> None:
    disk.save(replica(G1, G2.record(1)), head=REALM.head(), records=[(G2.id, G2.record(1))])
    with held(tmp_path, "EXCLUSIVE"), pytest.raises(NodeError, match=r"directory\.db can't be read .*locked"):
        disk.load(REALM.trust, G1.id, NOW)
    assert names(loaded(tmp_path)) == {"node-2"}


def test_a_file_that_is_removed_meanwhile_is_not_taken_for_the_whole(tmp_path: Path, disk: DirectoryFile) -> None:
    found = disk.load(REALM.trust, G1.id, NOW)
    found.take_head(REALM.head(), NOW)
    found.take_record(G2.record(1), NOW)
    found.reached(1)
    disk.save(found, head=REALM.head(), records=[(G2.id, G2.record(1))])
    assert loaded(tmp_path).version == 1
    (tmp_path / "directory.db").unlink()
    for version in (2, 3):
        found.take_record(G3.record(version), NOW)
        found.reached(version)
        disk.save(found, records=[(G3.id, G3.record(version))])
        assert loaded(tmp_path).version == 0 and found.version == version
