# SPDX-License-Identifier: Apache-2.0
"""Every request has an id: in the answer's `X-Request-Id`, in problems as `trace_id`, in the log and in the audit."""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilnet.api.ids import new_id

HEADER: Final = "X-Request-Id"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_current: ContextVar[str] = ContextVar("veil_request_id", default="")
_log: Any = structlog.get_logger("veilnet.api")


def current_request_id() -> str:
    return _current.get()


class RequestId:
    """Takes the caller's id if it is 8 to 64 letters, digits, dots, dashes or underscores; else makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _ACCEPTED.fullmatch(given) else new_id("req")
        _current.set(request_id)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            took = round((time.monotonic() - start) * 1000, 1)
            _log.info(scope["type"], method=scope.get("method"), path=scope["path"], status=status, ms=took)
