# SPDX-License-Identifier: Apache-2.0
"""What a node knows of its realm, on disk: `directory.db` (SQLite, mode 0600) in its state directory.

One transaction a message of the Master, so that documents and the version they lead up to are never apart, and a change
costs what it changes. Everything read back is verified like what comes from the Master.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from veilnet.files import write_private
from veilnet.protocol.envelope import DirectoryError, canonical_json
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust

_log = logging.getLogger("veilnet.node")

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS record (node TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)
_PUT_RECORD: Final = "INSERT INTO record VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET document = excluded.document"
_NUMBERS: Final = ("version", "floor", "shut")
"""Of a replica, beside its documents."""
_PUT_STATE: Final = "INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class DirectoryFile:
    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "directory.db"
        self._unseen: set[bytes] | None = None
        """As it was saved last."""

    def load(self, trust: Trust, own: bytes, clock: int) -> Replica:
        """The replica as it was saved. What does not verify is left out, and the whole is asked for again."""
        try:
            with self._open() as database:
                state = dict(database.execute("SELECT name, value FROM state"))
                records = list(database.execute("SELECT node, document FROM record"))
        except sqlite3.DatabaseError as error:
            _log.warning("%s is damaged (%s): asking the Master for everything", self._path, error)
            self._path.unlink(missing_ok=True)
            return Replica(trust, own)
        replica = Replica(trust, own, **{name: _number(state, name) for name in _NUMBERS})
        bad = 0
        if "head" in state:
            bad += not _taken(lambda: replica.take_head(state["head"].encode(), clock), "head")
        for node, document in records:
            bad += not _taken(lambda: replica.take_record(document.encode(), clock), node)  # noqa: B023 - called at once
        if bad:
            replica.version = 0
        replica.unseen.update(bytes.fromhex(node) for node in state.get("unseen", "").split())
        return replica

    def save(
        self,
        replica: Replica,
        *,
        head: Mapping[str, Any] | None = None,
        records: Iterable[tuple[bytes, Mapping[str, Any]]] = (),
        forgotten: Iterable[bytes] = (),
    ) -> None:
        with self._open() as database:
            if head is not None:
                database.execute(_PUT_STATE, ("head", canonical_json(head).decode()))
            rows = [(node.hex(), canonical_json(record).decode()) for node, record in records]
            database.executemany(_PUT_RECORD, rows)
            database.executemany("DELETE FROM record WHERE node = ?", [(node.hex(),) for node in forgotten])
            for name in _NUMBERS:
                database.execute(_PUT_STATE, (name, str(getattr(replica, name))))
            if self._unseen != replica.unseen:
                self._unseen = set(replica.unseen)
                database.execute(_PUT_STATE, ("unseen", " ".join(sorted(node.hex() for node in self._unseen))))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            write_private(self._path, b"")  # so that SQLite never makes it with another mode
        database = sqlite3.connect(self._path)
        try:
            with database:
                for statement in _SCHEMA:
                    database.execute(statement)
                yield database
        finally:
            database.close()


def _taken(take: Any, what: str) -> bool:
    try:
        take()
    except DirectoryError as error:
        _log.warning("%s on disk is not used: %s", what, error)
        return False
    return True


def _number(state: Mapping[str, str], name: str) -> int:
    text = state.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() else 0
