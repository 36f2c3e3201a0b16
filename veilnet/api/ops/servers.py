# SPDX-License-Identifier: Apache-2.0
"""Two uvicorn servers in one process: the API and the operators' listener; both end when the first is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from veilnet.api.ops.garbage import small_pieces

_log: Final[Any] = structlog.get_logger("veilnet.api")


class _Main(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _log.info("serving", host=self.config.host, port=self.config.port, tls=self.config.is_ssl)


class _Side(uvicorn.Server):
    """Leaves signals to the main server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_servers(api: uvicorn.Config, ops: Callable[[Callable[[], bool]], uvicorn.Config] | None) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress get `timeout_graceful_shutdown` seconds.

    `ops` makes the operators' listener from a function that says whether the main one is shutting down.
    """
    main = _Main(api)
    side = None if ops is None else _Side(ops(lambda: main.should_exit))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(main, side))


async def _run(main: uvicorn.Server, side: uvicorn.Server | None) -> None:
    watching = None if side is None else asyncio.create_task(side.serve())
    try:
        async with small_pieces():
            await main.serve()
    finally:
        if side is not None and watching is not None:
            side.should_exit = True
            await watching
