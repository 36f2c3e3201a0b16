# SPDX-License-Identifier: Apache-2.0
"""Threaded NAPI where it pays, decided from traffic.

Without it one softirq chain on one CPU seals, sends, receives, opens and delivers: the shortest way for single and for
small packets. With it the device's packets are handled by a kernel thread that the scheduler may put on another CPU:
that spreads the cipher's work of full-size frames, and costs small ones a wake-up each. So a device gets its thread
while it carries many bytes in large packets, and loses it when that is over. Pure: counters and time in, wishes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

BUSY_BYTES: Final = 30e6
"""Bytes per second from which on the cipher needs a good part of a CPU (about 3 ns a byte)."""
CALM_BYTES: Final = 15e6
LARGE_PACKET: Final = 500
"""Mean bytes a packet under which wake-ups cost more than a second CPU brings."""
CALM_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes and packets since some fixed time."""

    bytes: int
    packets: int


@dataclass(slots=True)
class Governor:
    """One device. `update` every half second or so with the counters of what it has to seal or open."""

    threaded: bool = False
    _last: Traffic | None = field(default=None, init=False)
    _at: float = field(default=0.0, init=False)
    _calm_since: float | None = field(default=None, init=False)

    def update(self, traffic: Traffic, now: float) -> bool:
        """Whether the device should have a thread now."""
        last, elapsed = self._last, now - self._at
        self._last, self._at = traffic, now
        if last is None or elapsed <= 0:
            return self.threaded
        size, packets = traffic.bytes - last.bytes, max(traffic.packets - last.packets, 1)
        large = size / packets >= LARGE_PACKET
        if large and size / elapsed >= BUSY_BYTES:
            self.threaded, self._calm_since = True, None
        elif self.threaded and large and size / elapsed >= CALM_BYTES:
            self._calm_since = None
        elif self.threaded:
            self._calm_since = now if self._calm_since is None else self._calm_since
            if now - self._calm_since >= CALM_SECONDS or not large:
                self.threaded, self._calm_since = False, None
        return self.threaded
