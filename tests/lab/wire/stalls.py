# SPDX-License-Identifier: Apache-2.0
"""When a process had no CPU. What a frame waits because of that is the machine's delay, not the wire's.

Frames that arrive during such a time are left out of figures of delay; whether a time is one is decided without a look
at any frame, so leaving out can't flatter what is measured.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

EVERY: Final = 0.001
"""Seconds between two looks at a process."""
NOTICEABLE: Final = 500_000
"""Nanoseconds of waiting that count."""
AFTER: Final = 1_000_000
"""Nanoseconds after a stall in which what it has held up arrives."""

Stall = tuple[int, int]
"""From, to: unix time in nanoseconds."""


class Stalls:
    """Any number of times, which may overlap."""

    def __init__(self, stalls: list[Stall]) -> None:
        merged: list[Stall] = []
        for begin, end in sorted((begin, end + AFTER) for begin, end in stalls):
            if merged and begin <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((begin, end))
        self._begins, self._ends = [begin for begin, _ in merged], [end for _, end in merged]

    def __contains__(self, moment: int) -> bool:
        place = bisect_right(self._begins, moment) - 1
        return place >= 0 and moment <= self._ends[place]


def of_probe(said: bytes) -> tuple[int, list[Stall]]:
    """Start and stalls of a probe, from its standard error."""
    start, stalls = 0, []
    for line in said.decode().splitlines():
        word, *numbers = line.split()
        if word == "start":
            start = int(numbers[0])
        elif word == "stall":
            stalls.append((int(numbers[0]), int(numbers[1])))
        else:
            raise AssertionError(f"probe: {line}")
    return start, stalls


def waited(pid: int) -> int:
    """Nanoseconds that a process has been ready to run and waited for a CPU (proc(5), /proc/pid/schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])


@contextmanager
def watching(pid: int) -> Iterator[list[Stall]]:
    """Times in which a process waited for a CPU, while the body runs; complete after it. The kernel books a wait when
    it ends, so it lies in the interval between two looks and as much before as it took."""
    found: list[Stall] = []
    done = threading.Event()

    def watch() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)  # who looks late leaves out more than needed
        last, since = waited(pid), time.time_ns()
        while not done.wait(EVERY):
            total, now = waited(pid), time.time_ns()
            if total - last >= NOTICEABLE:
                found.append((since - (total - last), now))
            last, since = total, now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
