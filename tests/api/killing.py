# SPDX-License-Identifier: Apache-2.0
"""Three Masters behind a balancer of connections, and clients that do what a careful client does when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from bench.controller import Replica
from tests.patience import PATIENCE

BUSY: Final = {429, 503}
LOST: Final = 0.02
"""Share of answers that the balancer throws away together with the connection: a kill seldom meets that moment."""


@asynccontextmanager
async def balanced(port: int, backends: Sequence[int]) -> AsyncIterator[None]:
    """Connections to `port` go to any backend that accepts; nothing is sticky, nothing is looked into."""
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        task.add_done_callback(open_now.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await _carry(reader, writer, backends)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backends: Sequence[int]) -> None:
    """Until either side ends; then the other is cut as well, as by a crash."""
    back: asyncio.StreamWriter | None = None
    pumps: list[asyncio.Task[None]] = []
    try:
        for port in random.sample(backends, len(backends)):
            with contextlib.suppress(OSError):
                answers, back = await asyncio.open_connection("127.0.0.1", port)
                break
        if back is not None:
            pumps = [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(answers, writer, LOST))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, back):
            if end is not None:
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, lost: float = 0.0) -> None:
    with contextlib.suppress(OSError):
        while (data := await source.read(65536)) and random.random() >= lost:
            target.write(data)
            await target.drain()


class Caller:
    """An administrator. A request whose answer is lost, or that is put off, is sent again with the same key."""

    def __init__(self, url: str, bearer: str) -> None:
        self._url, self._headers = f"{url}/api/v1", {"Authorization": f"Bearer {bearer}"}
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        self.count: Counter[str] = Counter()
        self.longest = 0.0
        """Seconds that a request took with all its tries."""

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        headers = self._headers | ({"Idempotency-Key": key} if key else {"If-Match": "*"})
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:
            try:
                answer = await self._client.request(method, self._url + path, json=body, headers=headers)
            except httpx.TransportError:
                self.count["connections broken"] += 1
            else:
                if answer.status_code not in BUSY and b"idempotency-in-flight" not in answer.content:
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.count["answers given again"] += "Idempotency-Replayed" in answer.headers
                    return answer
                self.count[f"put off with {answer.status_code}"] += 1
            await asyncio.sleep(0.2)
        raise AssertionError(f"{method} {path}: no answer in {PATIENCE} s")

    async def acknowledged(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        answer = await self.send(method, path, body, key=key)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        self.count["writes acknowledged"] += 1
        return answer.json() if answer.content else None


class EventReader:
    """An EventSource: connects again when the stream breaks, and says what it saw last."""

    def __init__(self, url: str, bearer: str) -> None:
        self._url, self._headers = f"{url}/api/v1/events", {"Authorization": f"Bearer {bearer}"}
        self.last: str | None = None
        self.begins = -1
        """Position of the first connection."""
        self.seen: list[int] = []
        self.connections = 0

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await self._read(client)
                await asyncio.sleep(0.2)

    async def _read(self, client: httpx.AsyncClient) -> None:
        headers = self._headers | ({} if self.last is None else {"Last-Event-ID": self.last})
        async with client.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code in BUSY:
                return
            assert answer.status_code == 200, f"{answer.status_code} {await answer.aread()!r}"
            self.connections += 1
            pending, data = self.last, ""
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    pending = value
                elif name == "data":
                    data = value
                elif not line:
                    self.last = pending
                    if data:
                        self.seen.append(json.loads(data)["id"])
                    elif self.begins < 0 and pending is not None:
                        self.begins = int(pending)
                    data = ""


async def kill_in_turn(masters: Sequence[Replica], kills: int, every: float) -> float:
    """One Master is killed, started again at once, and so on; the others go on. Longest seconds until one was back.

    None is killed before the last one is back: on a busy machine a start takes longer than `every`.
    """
    slowest = 0.0
    for number in range(kills):
        next_at = time.monotonic() + every
        master = masters[number % len(masters)]
        await asyncio.to_thread(master.kill)
        master.start()
        killed = time.monotonic()
        await asyncio.to_thread(master.wait)
        slowest = max(slowest, time.monotonic() - killed)
        await asyncio.sleep(next_at - time.monotonic())
    return slowest


async def steadily(per_second: float, stop: asyncio.Event, do: Callable[[int], Coroutine[Any, Any, None]]) -> int:
    """`do(number)` at fixed times until `stop`, one after the other where they take longer; how many there were."""
    number, began = 0, time.monotonic()
    while not stop.is_set():
        await do(number)
        number += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, began + number / per_second - time.monotonic())):
                await stop.wait()
    return number
