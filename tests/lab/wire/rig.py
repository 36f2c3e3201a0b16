# SPDX-License-Identifier: Apache-2.0
"""Wires between probe devices, in a namespace without a name that goes with its last process.

n0a ═ w0a ─emulator─ w0b ═ n0b        n1a ═ w1a ─ ... one process carries them all
"""

from __future__ import annotations

import os
import subprocess
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from veilnet.lab.wire.build import compiled
from veilnet.lab.wire.control import Control, Port, Wire, start_emulator

BYTES = 200


class Run:
    """What arrived: numbers of the frames in order of arrival, latencies in seconds, times of arrival in seconds."""

    def __init__(self, records: bytes) -> None:
        words = array("I", records)
        self.numbers = words[0::3].tolist()
        self.latencies = [word / 1e9 for word in words[1::3]]
        self.arrivals = [word / 1e6 for word in words[2::3]]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def spacing(self) -> float:
        """Mean time between arrivals."""
        return (self.arrivals[-1] - self.arrivals[0]) / (len(self) - 1)

    @property
    def gaps(self) -> list[float]:
        """Times between arrivals."""
        return [later - earlier for earlier, later in pairwise(self.arrivals)]


class Rig:
    def __init__(self, folder: Path, holder: int, count: int) -> None:
        self.path, self.log = folder / "control", folder / "log"
        self.namespace = Path(f"/proc/{holder}/ns/net")
        self.enter = ["nsenter", f"--net={self.namespace}", "--"]
        for n in range(count):
            for side in "ab":
                self.ip(f"link add name n{n}{side} mtu 1500 type veth peer name w{n}{side} mtu 1500")
                for device in (f"n{n}{side}", f"w{n}{side}"):
                    self.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
                    self.ip(f"link set dev {device} up")
        self.start()

    def start(self) -> None:
        self.pid = start_emulator(self.path, self.log, ["setpriv", "--pdeathsig", "KILL"])
        self.control = Control(self.path)

    def stop(self) -> None:
        self.control.stop()
        self.control.close()
        os.waitpid(self.pid, 0)

    def run(self, *line: str) -> str:
        return subprocess.run([*self.enter, *line], check=True, capture_output=True, text=True).stdout

    def ip(self, line: str) -> None:
        self.run("ip", *line.split())

    def add(self, n: int, seed: int = 1, name: str = "", slots: int = 4096) -> str:
        name = name or f"wire{n}"
        ends = (Port(f"w{n}a", self.namespace), Port(f"w{n}b", self.namespace))
        self.control.add(Wire(name, ends, seed, slots))
        return name

    def sender(self, n: int, count: int, interval_ns: int, size: int = BYTES) -> subprocess.Popen[bytes]:
        """Writes records and, on standard error, what cost it time (probe.c)."""
        line = [str(compiled("probe")), "measure", "-", f"n{n}a", "-", f"n{n}b"]
        command = [*self.enter, *line, str(count), str(interval_ns), str(size)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def measure(self, n: int, count: int, interval_ns: int, size: int = BYTES) -> Run:
        """Numbers of the frames in order of arrival, and their latencies in ns."""
        return Run(self.sender(n, count, interval_ns, size).communicate()[0])


@contextmanager
def running(folder: Path, count: int = 1) -> Iterator[Rig]:
    holder = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep 900"], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        rig = Rig(folder, holder.pid, count)
        try:
            yield rig
        finally:
            rig.stop()
    finally:
        holder.kill()
        holder.communicate()
