# SPDX-License-Identifier: Apache-2.0
"""Refuses request bodies above a limit, announced or not, before anything parses them, and those that don't end."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilnet.api.errors import TooLarge, error_response

BODY_SECONDS: Final = 30.0
"""For a request's body, from the end of its head."""


class BodyLimit:
    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limit:
            await error_response(self._error())(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        seen, ended, until = 0, False, asyncio.get_running_loop().time() + BODY_SECONDS

        async def counted() -> Message:
            nonlocal seen, ended
            if ended:
                return await receive()  # which tells that the caller has left, whenever that is
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not come within {BODY_SECONDS:g} s") from None
            seen, ended = seen + len(message.get("body", b"")), not message.get("more_body", False)
            if seen > self._limit:
                raise HTTPException(413, self._error().detail)  # the one exception that FastAPI lets out of a body
            return message

        return counted

    def _error(self) -> TooLarge:
        return TooLarge("too-large", f"at most {self._limit} bytes are read")
