# SPDX-License-Identifier: Apache-2.0
"""Start, change, read and stop a wire emulator through its control socket (control.h)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from veilnet.lab.journal import LabError
from veilnet.lab.wire.build import compiled
from veilnet.lab.wire.impairment import Impairment
from veilnet.lab.wire.settings import TABLES, direction_seed, settings, table

MEMORY = 256 << 20  # bytes of frames that may be on the way at once, all wires together
SLOTS = 512  # receive ring of a port, frames
_REPLY_SECONDS = 5.0
_REPLY_SIZE = 4096


class WireError(LabError):
    """The emulator refused, or is gone."""


@dataclass(frozen=True, slots=True)
class Port:
    """A device, and the path of its network namespace (None: the emulator's own)."""

    device: str
    namespace: Path | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """Two devices joined. Direction 0 goes from ends[0] to ends[1], direction 1 back."""

    name: str
    ends: tuple[Port, Port]
    seed: int = 0
    slots: int = SLOTS


@dataclass(frozen=True, slots=True)
class Counters:
    """One direction since the wire was added. Every frame in is out, dropped for one reason, or queued; a duplicate is
    one frame out more. `overrun`: found the receive ring full and never came in, so the process is too slow."""

    frames_in: int
    bytes_in: int
    frames_out: int
    bytes_out: int
    duplicated: int
    reordered: int
    queued_frames: int
    queued_bytes: int
    overrun: int
    dropped: dict[str, int] = field(default_factory=dict)
    """By reason: loss, mtu, blackhole, queue, memory (MEMORY is full), oversize (longer than the device's MTU was when
    the wire was added, or a super-frame: switch its offloads off), send (the device refused: down, or shorter MTU)."""


def command(socket_path: Path, memory: int = MEMORY) -> list[str]:
    """argv of the emulator, for a caller that starts processes itself. SIGTERM ends it cleanly."""
    return [str(compiled("emulator")), str(socket_path), str(memory)]


def start_emulator(socket_path: Path, log: Path, prefix: Sequence[str] = (), memory: int = MEMORY) -> int:
    """Start an emulator that outlives us and wait until it serves; its pid. Changes are logged to `log` (0600).

    `prefix` stands before its command: nsenter and a namespace, when it has to live in one.
    """
    line = [*prefix, *command(socket_path, memory)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(line[0], line, os.environ, file_actions=actions, setsid=True)
    try:
        Control(socket_path).close()
    except WireError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        msg = f"wire emulator did not start: {log.read_text().strip()[-500:] or 'no message'}"
        raise WireError(msg) from None
    return pid


class Control:
    """Client of one emulator. Waits until it serves, at most `patience` seconds."""

    def __init__(self, socket_path: Path, patience: float = 3.0) -> None:
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_REPLY_SECONDS)
        self._tables: set[int] = set()
        end = time.monotonic() + patience
        while (code := self._socket.connect_ex(str(socket_path))) and time.monotonic() < end:
            time.sleep(0.01)
        if code:
            self._socket.close()
            msg = f"wire emulator at {socket_path}: {os.strerror(code)}"
            raise WireError(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the emulator (unix(7), SO_PEERCRED)."""
        size = struct.calcsize("3i")
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", credentials)[0])

    def close(self) -> None:
        """Only this connection; wires stay."""
        self._socket.close()

    def add(self, wire: Wire) -> None:
        """Join both devices, without impairment yet. They must exist; they may be down."""
        words = [wire.name]
        for port in wire.ends:
            words += [str(port.namespace or "-"), port.device]
        seeds = [str(direction_seed(wire.seed, wire.name, n)) for n in (0, 1)]
        self._ask("add", *words, str(wire.slots), *seeds)

    def remove(self, name: str) -> None:
        """Take a wire away; frames on their way in it are gone."""
        self._ask("remove", name)

    def change(self, name: str, direction: int, impairment: Impairment) -> None:
        """Impair a direction from the next frame on. Frames under way keep their time; the dice roll on."""
        found = settings(impairment)
        self._send_table(found.get("table", 0))
        self._ask("set", name, str(direction), *(f"{key}={value}" for key, value in found.items()))

    def settings(self, name: str, direction: int) -> dict[str, int]:
        """What a direction does now, in the emulator's integers (settings.py); zeros are left out."""
        words = (word.split("=") for word in self._ask("settings", name, str(direction)).split())
        return {key: int(value) for key, value in words if int(value)}

    def counters(self, name: str, direction: int) -> Counters:
        words = dict(word.split("=") for word in self._ask("counters", name, str(direction)).split())
        numbers = {key: int(value) for key, value in words.items()}
        known = [f.name for f in fields(Counters) if f.name != "dropped"]
        return Counters(**{key: numbers.pop(key) for key in known}, dropped=numbers)

    def stop(self) -> None:
        """End the process; its socket file is gone when this returns."""
        self._ask("stop")
        with contextlib.suppress(OSError):
            self._socket.recv(1)  # returns when the process has closed its end

    def _send_table(self, number: int) -> None:
        if number and number not in self._tables:
            self._ask("table", str(number), *(str(value) for value in table(TABLES[number - 1])))
            self._tables.add(number)

    def _ask(self, *words: str) -> str:
        if any(not word or any(char.isspace() for char in word) for word in words):
            msg = f"wire emulator: a name in {' '.join(words[:3])!r} is empty or has blanks"
            raise WireError(msg)
        try:
            self._socket.send(" ".join(words).encode())
            reply = self._socket.recv(_REPLY_SIZE).decode()
        except OSError as error:
            msg = f"wire emulator at {self._path} does not answer: {error}"
            raise WireError(msg) from error
        verdict, _, rest = reply.partition(" ")
        if verdict != "ok":
            msg = f"wire emulator: {rest or 'it went away'}"
            raise WireError(msg)
        return rest
