# SPDX-License-Identifier: Apache-2.0
"""Is the other side of a session still there? Pings, and silence as the measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from veilnet.keyd.core import Core

DOUBT_TIME: Final = 5.0
"""Seconds without a sign of life after which a session under suspicion is given up."""


class Liveness:
    """Pings every `ping_interval`; while nothing is heard, or under suspicion, five times as often, so that single
    losses don't count. Dead after `ping_missed` intervals of silence."""

    def __init__(self, core: Core, ping: Callable[[], None]) -> None:
        self._core = core
        self._ping = ping
        self.alive = core.now
        self._doubt: float | None = None
        self._next = core.after(core.jitter(core.settings.ping_interval))

    def heard(self) -> None:
        self.alive = self._core.now
        self._doubt = None

    def suspect(self) -> None:
        """There is a reason to think that the other side has lost its state: ask at once."""
        if self._doubt is None:
            self._doubt = self._next = self._core.now

    @property
    def suspected(self) -> bool:
        return self._doubt is not None

    def check(self) -> bool:
        """Ping if it is time to. False: dead."""
        core, interval = self._core, self._core.settings.ping_interval
        silent = core.now - self.alive
        if silent >= interval * core.settings.ping_missed:
            return False
        if self._doubt is not None and core.now - self._doubt >= min(DOUBT_TIME, interval):
            return False
        if core.now >= self._next:
            anxious = self._doubt is not None or silent > interval * 1.2
            self._next = core.after(core.jitter(min(interval / 5, 1.0) if anxious else interval))
            self._ping()
        return True
