# SPDX-License-Identifier: Apache-2.0
"""The Master's clock, watched: what it signs must not carry a time that is wrong.

A jump against the monotonic clock makes it suspect until it jumps back or the Master is started again. A start at a
time before what was signed last is suspect too, unless the operator says that the clock is right now (`ACCEPT`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

JUMP_MAX: Final = 300
"""Seconds: as much as clocks of nodes may differ (RA1)."""
ACCEPT: Final = "VEILNET_ACCEPT_CLOCK"


class WatchedClock:
    """Unix seconds when called; `fault` says why it is not to be trusted, or is empty."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def __call__(self) -> int:
        return int(self._wall())

    @property
    def fault(self) -> str:
        jump = self._wall() - self._monotonic() - self._offset
        if abs(jump) <= JUMP_MAX:
            # what NTP corrects little by little is no jump
            self._offset += max(-1.0, min(1.0, jump))
            return ""
        way = "forward" if jump > 0 else "back"
        return f"clock-suspect: the Master's clock jumped {way} by {abs(jump):.0f} s; set it, or restart the Master"


def clock_fault(clock: Callable[[], int], signed_at: int) -> str:
    """Why nothing may be signed now, or nothing. `signed_at` is the time of the last signature."""
    if isinstance(clock, WatchedClock) and (fault := clock.fault):
        return fault
    behind = signed_at - clock()
    if behind > JUMP_MAX and not _accepted():
        remedy = f"set it, or start the Master with {ACCEPT}=1 if it is right now and was wrong then"
        return f"clock-suspect: the Master's clock is {behind} s behind what it has signed; {remedy}"
    return ""


def signed_in_a_future_that_was_none(clock: Callable[[], int], signed_at: int) -> bool:
    """The operator says that the clock was wrong when it signed last, and is right now."""
    return _accepted() and signed_at - clock() > JUMP_MAX


def _accepted() -> bool:
    return bool(os.environ.get(ACCEPT))
