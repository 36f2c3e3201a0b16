# SPDX-License-Identifier: Apache-2.0
"""What a node knows of its realm, on disk: `directory.db` (SQLite, mode 0600) in its state directory.

One transaction a message of the Master, so that documents and the version they lead up to are never apart, and a change
costs what it changes. Everything read back is verified like what comes from the Master. What the disk does not take
waits in memory, where it counts already, and goes with the next that it takes.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from veilnet.files import write_private
from veilnet.keyd.node_files import NodeError
from veilnet.protocol.envelope import DirectoryError, canonical_json
from veilnet.protocol.replica import Replica
from veilnet.protocol.trust import Trust

_log = logging.getLogger("veilnet.node")

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS record (node TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)
_PUT_RECORD: Final = "INSERT INTO record VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET document = excluded.document"
_DROP_RECORD: Final = "DELETE FROM record WHERE node = ?"
_NUMBERS: Final = ("version", "floor", "shut")
"""Of a replica, beside its documents."""
_PUT_STATE: Final = "INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


LOAD_PATIENCE: Final = 5.0
SAVE_PATIENCE: Final = 0.1
"""Seconds for which another's lock is waited for: links and handshakes wait with us for the latter."""
_PASSING: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Errors that say nothing about what is in the file."""


class DirectoryFile:
    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "directory.db"
        self._unseen: set[bytes] | None = None
        """As it was saved last."""
        self._head: Mapping[str, Any] | None = None
        self._rows: dict[bytes, Mapping[str, Any] | None] = {}
        """What is not on disk yet, None for who was forgotten."""
        self.fault = ""
        """Why the disk is behind."""
        self._gaps = False
        """The file was removed while we ran: what is written since is not the whole."""

    def load(self, trust: Trust, own: bytes, clock: int) -> Replica:
        """The replica as it was saved. What does not verify is left out, and the whole is asked for again.

        Raises NodeError where the file can't be read now, but is no worse for it.
        """
        try:
            with self._open(LOAD_PATIENCE) as database:
                state = dict(database.execute("SELECT name, value FROM state"))
                records = list(database.execute("SELECT node, document FROM record"))
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
                raise NodeError(
                    f"{self._path} can't be read ({error}): see to disk and mode, then try again"
                ) from error
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
        """Raises nothing: `fault` says what is wrong with the disk, and is empty again when it has everything."""
        self._head = head or self._head
        self._rows |= dict(records) | dict.fromkeys(forgotten)
        try:
            self._write(replica)
        except (sqlite3.Error, OSError) as error:
            if not self.fault:
                _log.error("%s: %s; the node goes on with what it knows", self._path, error)
            self.fault = f"{self._path.name}: {error}"
            return
        self._head, self._rows, self.fault = None, {}, ""

    def _write(self, replica: Replica) -> None:
        unseen = set(replica.unseen)
        self._gaps |= not self._path.exists()
        with self._open(SAVE_PATIENCE) as database:
            if self._head is not None:
                database.execute(_PUT_STATE, ("head", canonical_json(self._head).decode()))
            for node, record in self._rows.items():
                if record is None:
                    database.execute(_DROP_RECORD, (node.hex(),))
                else:
                    database.execute(_PUT_RECORD, (node.hex(), canonical_json(record).decode()))
            for name in _NUMBERS:
                database.execute(_PUT_STATE, (name, str(getattr(replica, name))))
            if self._gaps:
                database.execute(_PUT_STATE, ("version", "0"))  # so that the next start asks for everything
            if self._unseen != unseen:
                database.execute(_PUT_STATE, ("unseen", " ".join(sorted(node.hex() for node in unseen))))
        self._unseen = unseen

    @contextmanager
    def _open(self, patience: float) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            write_private(self._path, b"")  # so that SQLite never makes it with another mode
        database = sqlite3.connect(self._path, timeout=patience)
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
