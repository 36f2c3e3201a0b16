# SPDX-License-Identifier: Apache-2.0
"""What a lab has made so far, written down before it is made, so that `down` works after a kill at any moment.

One directory per lab, /run/veilnet-lab/<lab>: `journal` holds one JSON object a line, {"what": ..., "name": ...}; the
rest is one directory per node (key files, logs). A line may name a thing that was never made; removal is idempotent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BASE = Path("/run/veilnet-lab")
WHATS = ("netns", "pins", "nat", "disk", "mount")
_LAB = re.compile(r"[a-z][a-z0-9]{0,11}\Z")


class LabError(RuntimeError):
    """A lab command can't be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    what: str
    """`netns` (a namespace's name), `pins` (an instance of the data plane), `nat` (namespace of a translator), `disk`
    (directory of a lab of machines) or `mount` (a path)."""
    name: str


class Journal:
    """Append-only list of entries of one lab."""

    def __init__(self, lab: str) -> None:
        if not _LAB.match(lab):
            msg = f"lab name {lab!r}: a letter a-z, then at most 11 of a-z and 0-9"
            raise LabError(msg)
        self._name = lab
        self.directory = BASE / lab
        self._path = self.directory / "journal"

    def exists(self) -> bool:
        return self.directory.is_dir()

    def create(self) -> None:
        self.directory.mkdir(parents=True, mode=0o700)

    @contextmanager
    def making(self) -> Iterator[None]:
        """The lab's directory is made, and nobody else makes or removes this lab meanwhile. Raises LabError when there
        is one of that name, OSError when there is no room."""
        with exclusive():
            if self.exists():
                raise LabError(f"lab {self._name!r} exists already; remove it with: lab down {self._name}")
            self.create()
            descriptor = self._lock()
        assert descriptor is not None
        with _held(descriptor):
            yield

    @contextmanager
    def removing(self, patience: float = 120.0) -> Iterator[None]:
        """Nobody else makes or removes this lab meanwhile. Raises LabError after `patience` seconds, with who does."""
        deadline = time.monotonic() + patience
        while True:
            with exclusive():
                descriptor = self._lock() if self.exists() else _open(BASE)
            if descriptor is not None:
                break
            if time.monotonic() > deadline:
                raise LabError(f"lab {self._name!r} is being made or removed, which does not end: {self._locked_by()}")
            time.sleep(0.05)
        with _held(descriptor):
            yield

    def _lock(self) -> int | None:
        """Descriptor of the lab's directory, locked; None while somebody has it. Under `exclusive` only, so that nobody
        takes it between its making and its locking."""
        descriptor = _open(self.directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _locked_by(self) -> str:
        try:
            return _holder(self.directory.stat().st_ino)
        except FileNotFoundError:
            return "no longer"

    def add(self, what: str, name: str) -> None:
        """Write an entry before the thing is made; written is in the kernel, so a kill after it loses nothing."""
        if what not in WHATS:
            msg = f"journal: unknown kind {what!r}"
            raise LabError(msg)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "name": name}) + "\n")

    def entries(self) -> list[Entry]:
        """Entries in order; a last line cut short by a kill is left out, what it names was not made yet."""
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [Entry(row["what"], row["name"]) for row in map(json.loads, lines)]


def _open(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


@contextmanager
def _held(descriptor: int) -> Iterator[None]:
    """Gives up what is locked by it at the end; the base goes with the last lab."""
    try:
        yield
    finally:
        os.close(descriptor)
        with exclusive():
            pass


def labs() -> list[str]:
    """Names of the labs that exist, up or half made."""
    return sorted(path.name for path in BASE.iterdir() if path.is_dir()) if BASE.is_dir() else []


@contextmanager
def exclusive(patience: float = 120.0) -> Iterator[None]:
    """For moments: names of labs are taken one at a time. The lock is the base directory itself, which goes when it is
    empty.

    Raises LabError with the holder's pid and command after `patience` seconds.
    """
    descriptor = _lock_base(time.monotonic() + patience)
    try:
        yield
    finally:
        if not any(BASE.iterdir()):
            with contextlib.suppress(OSError):  # a mount point stays
                BASE.rmdir()
        os.close(descriptor)


def _lock_base(deadline: float) -> int:
    while True:
        BASE.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = _open(BASE)
        except FileNotFoundError:
            continue
        try:
            _wait_for_lock(descriptor, deadline)
        except LabError:
            os.close(descriptor)
            raise
        if os.fstat(descriptor).st_nlink:  # else removed by the one before us while we waited
            return descriptor
        os.close(descriptor)


def _wait_for_lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _holder(os.fstat(descriptor).st_ino)
                raise LabError(f"another process holds the labs' directory and does not end: {holder}") from None
        time.sleep(0.05)


def _holder(number: int) -> str:
    """Pid and command line of who holds the lock of an inode, by /proc/locks: id, kind, mode, access, pid, inode."""
    inode = str(number)
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{words[4]}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"pid {words[4]}, {command.strip()}"
    return "unknown"
