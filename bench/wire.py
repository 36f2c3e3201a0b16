# SPDX-License-Identifier: Apache-2.0
"""The least that speaks to a Master: HTTP/1.1 over kept connections and the reading side of WebSockets (RFC 6455).

The load shares its cores with what it loads, so a message costs a search in its bytes and nothing more.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Final

_SWITCHING: Final = b"HTTP/1.1 101 "
_TEXT, _CLOSE, _PING = 1, 8, 9
_FINAL: Final = 0x80


class Http:
    """Requests to one server, each on a connection that is idle, or on a new one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def request(self, method: str, path: str, bearer: str, body: bytes = b"") -> tuple[int, bytes]:
        """(status, body) of the answer."""
        reader, writer = await self._connection()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {bearer}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        answer = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return int(lines[0].split()[1]), answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # a Master ends what lay idle for some seconds
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


class Channel(asyncio.Protocol):
    """One WebSocket that only listens; `take` gets the bytes of each text."""

    def __init__(self, path: str, bearer: str, take: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
                 f"Authorization: Bearer {bearer}")  # fmt: skip
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._take, self._lost = take, lost
        self._buffer = bytearray()
        self._open = self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def close(self) -> None:
        self._closing = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._lost(f"channel closed: {exc}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open and not self._accepted():
            return
        while (found := self._frame()) is not None:
            opcode, payload = found
            if opcode == _TEXT:
                self._take(payload)
            elif opcode == _PING:  # the answer, masked with zeros
                self._transport.write(bytes((_FINAL | 10, _FINAL | len(payload))) + bytes(4) + payload)
            elif opcode == _CLOSE:
                self._closing = True
                self._lost(f"channel closed by the Master: {payload[:100]!r}")

    def _accepted(self) -> bool:
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(_SWITCHING):
            self._lost(f"channel refused: {bytes(head[:100])!r}")
            self.close()
            return False
        del self._buffer[: len(head) + 4]
        self._open = True
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        """Takes a whole frame out of the buffer: (opcode, payload). A Master's frames are not masked."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(buffer[2:start], "big") if len(buffer) >= start else len(buffer)
        if len(buffer) < start + length:
            return None
        assert buffer[0] & _FINAL, "uvicorn sends each message in one frame"
        found = buffer[0] & 15, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return found
