# SPDX-License-Identifier: Apache-2.0
"""A connection of the API's listener: uvicorn's, with bounds on what a stranger may hold open.

uvicorn closes a connection that is idle after an answer; one that never sends a request, or its head byte by byte, or a
head without end, it keeps.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 20.0
"""From the connection, or the answer before, to the end of a request's head."""
HEAD_MAX: Final = 64 * 1024
"""Bytes of a head; what one read brings comes on top."""

PIPELINE_MAX: Final = 16
"""Requests that may wait for the answers before theirs; each answer lets uvicorn read on, whatever waits already."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes without an answer: whoever does that does not wait for one."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        if len(self.pipeline) >= PIPELINE_MAX:
            self.transport.close()
        else:
            super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _too_late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def allow_files() -> None:
    """As many open files, one a connection, as the system lets this process have; services start with 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
