# SPDX-License-Identifier: Apache-2.0
"""Named deadlines. No clock inside: `now` (seconds, any epoch) is an argument."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable

Fire = Callable[[], None]


class Timers:
    """At most one deadline a key; setting a key again replaces its deadline."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Fire]] = {}
        self._serial = 0

    def set(self, key: Hashable, when: float, fire: Fire) -> None:
        self._serial += 1
        self._live[key] = (self._serial, fire)
        heapq.heappush(self._heap, (when, self._serial, key))

    def cancel(self, *keys: Hashable) -> None:
        for key in keys:
            self._live.pop(key, None)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._live

    def next_deadline(self) -> float | None:
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Fire what is due, each key once at most per call that set it; what fires may set new deadlines."""
        while True:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, key = heapq.heappop(self._heap)
            self._live.pop(key)[1]()

    def _drop_stale(self) -> None:
        while self._heap:
            _, serial, key = self._heap[0]
            if key in self._live and self._live[key][0] == serial:
                return
            heapq.heappop(self._heap)
