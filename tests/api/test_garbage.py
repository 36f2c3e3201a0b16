# SPDX-License-Identifier: Apache-2.0
"""The collector works by the clock while a Master serves, and as before after it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from veilnet.api.ops import garbage
from veilnet.api.ops.garbage import FULL, MIDDLE, Collector, small_pieces


@contextmanager
def passes() -> Iterator[list[int]]:
    """Generations in the order in which they were collected."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


async def test_the_old_are_looked_at_seldom() -> None:
    collector = Collector()
    with passes() as found:
        for _ in range(2 * MIDDLE):
            await collector.turn()
        collector.passes = FULL - 1
        await collector.turn()
    assert found == [*[0] * (MIDDLE - 1), 1] * 2 + [2]


class Ring:
    def __init__(self) -> None:
        self.itself = self


async def test_garbage_goes_by_the_clock_without_an_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "PERIOD", 0.01)
    before = gc.get_threshold()
    async with small_pieces():
        assert gc.get_freeze_count() > 10_000, "modules are not looked at again"
        gone = weakref.ref(Ring())
        async with asyncio.timeout(10):
            while gone() is not None:
                await asyncio.sleep(0.01)
    assert gc.get_threshold() == before and gc.get_freeze_count() == 0
