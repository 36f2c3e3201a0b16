# SPDX-License-Identifier: Apache-2.0
"""Runs operations in this process, and marks as failed what another process left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import write_session
from veilnet.api.errors import ApiError
from veilnet.api.hub import Hub
from veilnet.api.operations.repository import OperationRepository

HEARTBEAT_SECONDS: Final = 10
DEAD_SECONDS: Final = 60
_log: Any = structlog.get_logger("veilnet.api")


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Somebody asked to cancel the operation."""


Work = Callable[["Progress"], Awaitable[dict[str, Any]]]


@dataclass
class Progress:
    """The running operation's own view: `await progress.advance(done, total)` between steps."""

    runner: OperationRunner
    operation_id: str
    done: int = 0
    total: int | None = None

    async def advance(self, done: int, total: int | None = None) -> None:
        """Raises Cancelled when it should end."""
        self.done, self.total = done, total if total is not None else self.total
        async with write_session(self.runner.engine, self.runner.hub) as session:
            now = self.runner.clock()
            go_on = await OperationRepository(session).advance(self.operation_id, now, self.done, self.total)
        if not go_on:
            raise Cancelled


@dataclass
class OperationRunner:
    engine: AsyncEngine
    hub: Hub
    clock: Callable[[], int]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, operation_id: str, work: Work) -> None:
        task = asyncio.create_task(self._run(operation_id, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, operation_id: str, work: Work) -> None:
        progress = Progress(self, operation_id)
        task = asyncio.current_task()
        assert task is not None
        alive = asyncio.create_task(self._keep_alive(progress, task))
        try:
            values: dict[str, Any] = {"state": "succeeded", "result": await work(progress)}
        except (Cancelled, asyncio.CancelledError):
            values = {"state": "cancelled"}
        except ApiError as error:
            values = {"state": "failed", "error": error.detail}
        except Exception as error:
            _log.error("operation", operation=operation_id, exc_info=error)
            values = {"state": "failed", "error": "the Master failed; its log has the details"}
        finally:
            alive.cancel()
        async with write_session(self.engine, self.hub) as session:
            await OperationRepository(session).end(operation_id, self.clock(), **values)

    async def _keep_alive(self, progress: Progress, task: asyncio.Task[None]) -> None:
        """Also while one step takes long; cancels the work when somebody asked for it."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await progress.advance(progress.done)
            except Cancelled:
                task.cancel()
                return
            except (SQLAlchemyError, OSError) as error:
                _log.warning("operation", operation=progress.operation_id, error=type(error).__name__)

    async def bury_dead(self) -> None:
        now = self.clock()
        async with write_session(self.engine, self.hub) as session:
            await OperationRepository(session).bury(now - DEAD_SECONDS, now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While inside, the dead are buried now and then; at the end, what still runs is cancelled."""
        stop = asyncio.Event()
        watch = asyncio.create_task(self._watch(stop))
        try:
            yield
        finally:
            stop.set()  # not cancelled: a statement that is cut off leaves a broken connection in the pool
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(watch, *self._tasks, return_exceptions=True)

    async def _watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(SQLAlchemyError, OSError):
                await self.bury_dead()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), DEAD_SECONDS / 4)
