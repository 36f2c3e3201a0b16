# SPDX-License-Identifier: Apache-2.0
"""What one peer may ask of us in a while: token buckets by node id, for those who have proven who they are.

Never count a name that has not been proven: anyone could use up another's share.
"""

from __future__ import annotations

from typing import Final

SWEEP: Final = 4096
"""Peers from which on those whose bucket is full again are forgotten. The realm bounds the rest."""


class Budget:
    """`rate` events a second to each peer, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._period = 1 / rate
        self._lead = (burst - 0.5) / rate  # half an event, so that rounding takes none away
        self._due: dict[bytes, float] = {}

    def take(self, peer: bytes, now: float) -> bool:
        """Whether `peer` may have one more; then it has had it."""
        due = max(self._due.get(peer, 0.0), now)
        if due - now > self._lead:
            return False
        if len(self._due) >= SWEEP:
            self._due = {name: when for name, when in self._due.items() if when > now}
        self._due[peer] = due + self._period
        return True
