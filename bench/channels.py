# SPDX-License-Identifier: Apache-2.0
"""The fleet's own side in one process: channels, changes at a steady rate, an administrator who reads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import httpx
from websockets.asyncio.client import connect

from bench.controller import Fleet, Member, Replica

OPENING_AT_ONCE: Final = 32
LIST_PER_SECOND: Final = 5


class Watched:
    """Channels of all members, spread over the replicas. Times are `time.monotonic` seconds."""

    def __init__(self, fleet: Fleet, masters: Sequence[Replica]) -> None:
        self.fleet, self._masters = fleet, masters
        self._sent: dict[str, float] = {}
        self.delays: list[float] = []
        """Request begun to record received, for every node that a change concerns."""
        self.failed: list[str] = []
        self.lost = 0
        self._gate = asyncio.Semaphore(OPENING_AT_ONCE)
        self._open: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        confluxes = [member for member in fleet.members if member.group]
        self._turns = itertools.cycle(random.sample(confluxes, len(confluxes)))  # none again while it is under way

    async def open(self) -> None:
        """Until every channel has said all that there was."""
        for number, member in enumerate(self.fleet.members):
            url = self._masters[number % len(self._masters)].url.replace("http", "ws", 1)
            self._tasks.append(asyncio.create_task(self._follow(url, member)))
        while len(self._open) < len(self._tasks):
            await asyncio.sleep(0.2)
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("a channel ended at once")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, url: str, member: Member) -> None:
        headers = {"Authorization": f"Bearer {member.credential}"}
        where = f"{url}/api/v1/node/channel"
        async with contextlib.AsyncExitStack() as stack:
            async with self._gate:
                socket = await stack.enter_async_context(
                    connect(where, additional_headers=headers, max_size=None, compression=None,
                            open_timeout=120, ping_interval=None)
                )  # fmt: skip
                async for text in socket:
                    if _owns(text, member):
                        break
            self._open.add(member.row_id)
            async for text in socket:
                self._take(str(text))
        self.lost += 1

    def _take(self, text: str) -> None:
        now, message = time.monotonic(), json.loads(text)
        for record in message.get("records", ()):
            began = self._sent.get(record.get("descriptor", {}).get("payload", ""))
            if began is not None:
                self.delays.append(now - began)

    async def change(self, client: httpx.AsyncClient) -> None:
        """One Conflux states a new descriptor, at any replica."""
        member = next(self._turns)
        body, master = member.descriptor(), random.choice(self._masters)
        self._sent[body["payload"]] = time.monotonic()
        headers = {"Authorization": f"Bearer {member.credential}"}
        answer = await client.put(f"{master.url}/api/v1/node/descriptor", json=body, headers=headers)
        if answer.status_code != 200:
            self.failed.append(f"change: {answer.status_code} {answer.text[:200]}")

    async def read_page(self, client: httpx.AsyncClient) -> float:
        """Seconds for a page of 100 nodes."""
        began, headers = time.monotonic(), {"Authorization": f"Bearer {self.fleet.admin}"}
        master = random.choice(self._masters)
        answer = await client.get(f"{master.url}/api/v1/nodes", params={"limit": 100}, headers=headers)
        if answer.status_code != 200:
            self.failed.append(f"list: {answer.status_code} {answer.text[:200]}")
        return time.monotonic() - began


def _owns(text: str | bytes, member: Member) -> bool:
    """Whether this is the end of the opening: the message whose version goes beyond where it began."""
    message: dict[str, Any] = json.loads(text)
    return bool(message["type"] == "records" and message["version"] > message["from"])


async def at_rate(per_second: float, seconds: float, do: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Start `do` at fixed times whether or not earlier ones have ended (an open loop); their results."""
    began, tasks = time.monotonic(), []
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(began + number / per_second - time.monotonic())
        tasks.append(asyncio.create_task(do()))
    return await asyncio.gather(*tasks)
