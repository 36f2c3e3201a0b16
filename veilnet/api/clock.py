# SPDX-License-Identifier: Apache-2.0
"""The Master's clock, watched: what it signs must not carry a time that is wrong.

A jump against the monotonic clock makes it suspect until it jumps back or the Master is started again. A start at a
time before what was signed or written last, or long after it, is suspect too, unless the operator says that the
clock is right now (`ACCEPT`): retention and upkeep drop what a time far ahead makes old, and that does not come back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from veilnet.api.times import DAY

JUMP_MAX: Final = 300
"""Seconds: as much as clocks of nodes may differ (RA1)."""
AWAY_MAX: Final = 60 * DAY
"""Seconds for which a Master may be away before its clock is asked about. Its nodes' certificates ended long before."""
ACCEPT: Final = "VEILNET_ACCEPT_CLOCK"


_SUSPECT: Final = "clock-suspect: the Master's clock"
_REMEDY: Final = f"set it and start again, or start once with {ACCEPT}=1 in the environment if it"


class WatchedClock:
    """Unix seconds when called; `fault` says why it is not to be trusted, or is empty."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._at_start = ""

    def __call__(self) -> int:
        return int(self._wall())

    def compare(self, signed_at: int, written_at: int) -> str:
        """At the start, with the latest times that the database knows of a signature and of any change; 0 is none.

        The fault that the operator's word excuses, or nothing.
        """
        found = fault_at_start(self(), signed_at, written_at)
        self._at_start = "" if accepted() else found
        return found if accepted() else ""

    @property
    def fault(self) -> str:
        if self._at_start:
            return self._at_start
        jump = self._wall() - self._monotonic() - self._offset
        if abs(jump) <= JUMP_MAX:
            # what NTP corrects little by little is no jump
            self._offset += max(-1.0, min(1.0, jump))
            return ""
        way = "forward" if jump > 0 else "back"
        return f"{_SUSPECT} jumped {way} by {abs(jump):.0f} s; set it, or restart the Master"


def clock_fault(clock: Callable[[], int], signed_at: int) -> str:
    """Why nothing may be signed now, or nothing. `signed_at` is the time of the last signature."""
    if isinstance(clock, WatchedClock) and (fault := clock.fault):
        return fault
    return _behind(clock(), signed_at)


def fault_at_start(now: int, signed_at: int, written_at: int) -> str:
    """Why `now` can't be right beside the latest times that a database knows (0: none), or nothing."""
    latest = max(signed_at, written_at)
    if latest - now > JUMP_MAX:
        done = "signed" if signed_at == latest else "written"
        return f"{_SUSPECT} is {latest - now} s behind what it has {done}; {_REMEDY} is right now and was wrong then"
    if latest and now - latest > AWAY_MAX:
        away = (now - latest) // DAY
        return f"{_SUSPECT} is {away} days after its last change; {_REMEDY} is right and nothing ran for so long"
    return ""


def _behind(now: int, signed_at: int) -> str:
    return "" if accepted() or signed_at - now <= JUMP_MAX else fault_at_start(now, signed_at, 0)


def signed_in_a_future_that_was_none(clock: Callable[[], int], signed_at: int) -> bool:
    """The operator says that the clock was wrong when it signed last, and is right now."""
    return accepted() and signed_at - clock() > JUMP_MAX


def accepted() -> bool:
    return bool(os.environ.get(ACCEPT))
