# SPDX-License-Identifier: Apache-2.0
"""Is the other side of a session still there? Pings, and silence as the measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from veilnet.keyd.core import Core
from veilnet.keyd.dataplane import LinkStats, StreamStats

DOUBT_TIME: Final = 5.0
"""Seconds without a sign of life after which a session under suspicion is given up."""
FLOW_TICKS: Final = 3
FLOW_FRAMES: Final = 5
"""Ticks in a row, and frames heard in each, that make a flow: pings don't come so often."""
FLOW_SILENCE: Final = 2.0
FLOW_DOUBT_TIME: Final = 3.0
"""A flow that goes on from our side and has stopped from the other: seconds until we ask, and for an answer."""
ASK_TICKS: Final = 2
"""Ticks in which something was sent since the last sign of life: then we ask."""
RESTART_GRACE: Final = 20.0
"""Seconds after our own restart in which nobody is quiet: daemons of a whole fleet may start one after the other."""
QUIET_TIME: Final = 4.0
"""Seconds without an answer to that until the session is quiet."""


class Liveness:
    """Pings every `ping_interval`; while nothing is heard, or under suspicion, five times as often, so that single
    losses don't count. Dead after `ping_missed` intervals of silence.

    A key daemon that is down for a while answers no pings, while its data plane goes on. So only a flow both ways that
    has broken off from the other side is a reason to give up sooner; one that never had a way back is none.

    Short of that, a session that is sent on and not heard becomes `quiet`: its owner may try another way beside it and
    keep this one meanwhile."""

    def __init__(self, core: Core, ping: Callable[[], None], *, restarted: bool = False) -> None:
        self._core = core
        self._ping = ping
        self.alive = core.now
        self._doubt: float | None = None
        self._patience = DOUBT_TIME
        self._flow = 0
        self._gap = False
        self._unheard = 0
        self._asked: float | None = None
        self._asks_from = core.after(RESTART_GRACE) if restarted else core.now
        self._last: tuple[int, int, int] | None = None
        self._next = core.after(core.jitter(core.settings.ping_interval))

    def heard(self) -> None:
        self.alive = self._core.now
        self._doubt = self._asked = None
        self._unheard = 0

    def suspect(self, patience: float = DOUBT_TIME) -> None:
        """There is a reason to think that the other side has lost its state: ask at once."""
        if self._doubt is None:
            self._doubt = self._next = self._core.now
            self._patience = patience

    def watch(self, stats: LinkStats | StreamStats) -> None:
        """At each tick: what the data plane has counted."""
        seen = stats.rx_seen, stats.tx_seen, stats.rx_frames
        last, self._last = self._last or seen, seen
        heard, sent = seen[0] != last[0], seen[1] != last[1]
        if heard:
            self.heard()
            before = 0 if self._gap else self._flow
            # the last tick of a flow is a short one: it takes one away, not all
            self._flow = (
                min(before, FLOW_TICKS) + 1 if sent and seen[2] - last[2] >= FLOW_FRAMES else max(before - 1, 0)
            )
        elif sent:
            self._unheard += 1
        if not heard and sent and self._flow >= FLOW_TICKS and self._core.now - self.alive >= FLOW_SILENCE:
            self.suspect(FLOW_DOUBT_TIME)
        self._gap = not heard

    @property
    def suspected(self) -> bool:
        return self._doubt is not None

    @property
    def quiet(self) -> bool:
        return self._asked is not None and self._core.now - self._asked >= QUIET_TIME

    def check(self) -> bool:
        """Ping if it is time to. False: dead."""
        core, interval = self._core, self._core.settings.ping_interval
        silent = core.now - self.alive
        if silent >= interval * core.settings.ping_missed:
            return False
        if self._doubt is not None and core.now - self._doubt >= min(self._patience, interval):
            return False
        if self._asked is None and self._unheard >= ASK_TICKS and core.now >= self._asks_from:
            self._asked = self._next = core.now
        if core.now >= self._next:
            anxious = self._doubt is not None or self._asked is not None or silent > interval * 1.2
            self._next = core.after(core.jitter(min(interval / 5, 1.0) if anxious else interval))
            self._ping()
            if self._patience < DOUBT_TIME and self._doubt is not None:
                self._ping()  # little time: one lost answer must not decide
        return True
