# SPDX-License-Identifier: Apache-2.0
"""Garbage in small pieces: while the collector walks objects, every node and every caller of this process waits.

It counts objects made less objects freed, and where the freed ones are old, the young ones may become many before the
count is reached: at 10,000 nodes and 50 changes a second a pass over them took 100 ms. By the clock they stay few.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from veilnet.api.periodic import repeated

PERIOD: Final = 1.0
"""Seconds between two passes over the youngest."""
MIDDLE: Final = 8
FULL: Final = 3600
"""Every so many passes is one over the middle-aged, too, or over all: 0.1 s for 1,000 nodes."""
THRESHOLDS: Final = (20_000, 5, 50)
"""For bursts in between: a fleet that connects at once makes 400 objects a node."""


class Collector:
    def __init__(self) -> None:
        self.passes = 0

    async def turn(self) -> None:
        self.passes += 1
        gc.collect(2 if self.passes % FULL == 0 else 1 if self.passes % MIDDLE == 0 else 0)


@asynccontextmanager
async def small_pieces() -> AsyncIterator[None]:
    """While inside, garbage is collected by the clock; what is there now (modules, routes, models) stays."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    collector = Collector()
    try:
        async with repeated("garbage", PERIOD, lambda _: collector.turn()):
            yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
