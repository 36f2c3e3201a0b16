# SPDX-License-Identifier: Apache-2.0
"""The fleet's own side in one process: channels, changes at a steady rate, an administrator who reads."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from bench.controller import Fleet, Member, Replica
from bench.wire import Channel, Http

OPENING_AT_ONCE: Final = 32
LIST_PER_SECOND: Final = 5
_MESSAGE: Final = re.compile(rb'\{"type":"records","from":(\d+),"version":(\d+)')
_DESCRIPTOR: Final = re.compile(rb'"descriptor":\{"key":"[0-9a-f]{32}","payload":"([A-Za-z0-9+/=]+)"')


class Watched:
    """Channels of all members, spread over the replicas. Times are `time.monotonic` seconds."""

    def __init__(self, fleet: Fleet, masters: Sequence[Replica], tls: ssl.SSLContext | None = None) -> None:
        """`tls`: of the channels alone."""
        self.fleet, self._masters, self._tls = fleet, masters, tls
        self._https = [Http(master.port) for master in masters]
        self._sent: dict[bytes, float] = {}
        self.delays: list[float] = []
        """Request begun to record received, for every node that a change concerns."""
        self.failed: list[str] = []
        self.lost: list[str] = []
        self._gate = asyncio.Semaphore(OPENING_AT_ONCE)
        self._channels: list[Channel] = []
        confluxes = [member for member in fleet.members if member.group]
        self._turns = itertools.cycle(random.sample(confluxes, len(confluxes)))  # none again while it is under way
        self._signed: list[tuple[Member, dict[str, str]]] = []

    async def open(self) -> None:
        """Until every channel has said all that there was."""
        await asyncio.gather(*(self._follow(number, member) for number, member in enumerate(self.fleet.members)))

    async def close(self) -> None:
        for channel in self._channels:
            channel.close()
        for http in self._https:
            http.close()

    async def _follow(self, number: int, member: Member) -> None:
        loop, opened = asyncio.get_running_loop(), asyncio.Event()

        def take(text: bytes) -> None:
            if opened.is_set():
                self._take(text)
            elif (found := _MESSAGE.match(text)) and int(found[2]) > int(found[1]):
                opened.set()  # the end of the opening: the version goes beyond where it began

        async with self._gate:
            channel = Channel("/api/v1/node/channel", member.credential, take, self.lost.append)
            port = self._masters[number % len(self._masters)].port
            await loop.create_connection(lambda: channel, "127.0.0.1", port, ssl=self._tls)
            self._channels.append(channel)
            async with asyncio.timeout(120):
                await opened.wait()

    def _take(self, text: bytes) -> None:
        now = time.monotonic()
        for found in _DESCRIPTOR.finditer(text):
            began = self._sent.get(found[1])
            if began is not None:
                self.delays.append(now - began)

    def sign(self, count: int) -> None:
        """Make what `change` sends; a node does that on its own machine."""
        for _ in range(count):
            member = next(self._turns)
            self._signed.append((member, member.descriptor()))
        self._signed.reverse()

    async def change(self) -> None:
        """One Conflux states a new descriptor, at any replica."""
        member, document = self._signed.pop()
        body = json.dumps(document).encode()
        self._sent[document["payload"].encode()] = time.monotonic()
        status, answer = await self._any().request("PUT", "/api/v1/node/descriptor", member.credential, body)
        if status != 200:
            self.failed.append(f"change: {status} {answer[:200]!r}")

    async def read_page(self) -> float:
        """Seconds for a page of 100 nodes."""
        began = time.monotonic()
        status, answer = await self._any().request("GET", "/api/v1/nodes?limit=100", self.fleet.admin)
        if status != 200:
            self.failed.append(f"list: {status} {answer[:200]!r}")
        return time.monotonic() - began

    def _any(self) -> Http:
        return random.choice(self._https)


async def at_rate(per_second: float, seconds: float, do: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Start `do` at fixed times whether or not earlier ones have ended (an open loop); their results."""
    began, tasks = time.monotonic(), []
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(began + number / per_second - time.monotonic())
        tasks.append(asyncio.create_task(do()))
    return await asyncio.gather(*tasks)
