# SPDX-License-Identifier: Apache-2.0
"""Work that every replica does from time to time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

_log: Any = structlog.get_logger("veilnet.api")
Stopping = Callable[[], bool]
Turn = Callable[[Stopping], Awaitable[object]]


@asynccontextmanager
async def repeated(name: str, seconds: float, turn: Turn) -> AsyncIterator[None]:
    """While inside, a turn every `seconds`, the first after as many; one that fails is logged under `name`.

    At the end the turn that is under way comes to its end, which its argument tells it to hasten.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(_run(name, seconds, turn, stop))
    try:
        yield
    finally:
        stop.set()  # not cancelled: a statement that is cut off leaves a broken connection in the pool
        await task


async def _run(name: str, seconds: float, turn: Turn, stop: asyncio.Event) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
            return
        try:
            await turn(stop.is_set)
        except (SQLAlchemyError, OSError) as error:
            _log.warning(name, error=type(error).__name__)
        except Exception as error:  # the Master must go on serving
            _log.error(name, exc_info=error)
