# SPDX-License-Identifier: Apache-2.0
"""Times in tests. A machine that is ten times slower, or that others use too, fails no test that is right.

Three rules: wait for a condition, not for a time; how long something takes is the subject of a test only where a
promise to users says so, and then through `promised`; where a clock decides, the test owns it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

SOAK: Final = bool(os.environ.get("VEILNET_SOAK"))
PATIENCE: Final = 60.0
"""Seconds after which what has to happen counts as never happening."""
SLOWNESS: Final = 1 if SOAK else 10
"""How many times slower than a machine of our own this may be: ./run soak wants one, ./run test and CI share theirs."""


def promised(seconds: float) -> float:
    """The bound to test for what users are promised in `seconds`: just that under ./run soak."""
    return seconds * SLOWNESS


def wait_for(
    holds: Callable[[], object], seconds: float = PATIENCE, *, what: str = "it does not hold", every: float = 0.02
) -> float:
    """Seconds until it holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds, f"{what} within {seconds:g} s"
        time.sleep(every)
    return time.monotonic() - start


async def eventually(holds: Callable[[], Awaitable[object]], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.02)
