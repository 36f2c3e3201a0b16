# SPDX-License-Identifier: Apache-2.0
"""Who listens: the open channels of this process, woken when a realm changes.

Only a hint. A channel also looks at the database at every heartbeat, so a lost notification delays a change by one
heartbeat at most. Replicas on one Postgres wake each other (`veilnet.api.listen`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Hub:
    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._connected: Counter[str] = Counter()

    @contextmanager
    def online(self, node_id: str) -> Iterator[None]:
        """The node has an open channel in this process."""
        self._connected[node_id] += 1
        try:
            yield
        finally:
            self._connected[node_id] -= 1

    @contextmanager
    def waiting(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever `topic` was woken (`veilnet.api.db.wake`), for example `outbox`."""
        woken = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(woken)
        try:
            yield woken
        finally:
            self._waiting[topic].discard(woken)

    def notify_all(self) -> None:
        for topic in list(self._waiting):
            self.notify(topic)

    def notify(self, realm_id: str) -> None:
        for changed in self._waiting.get(realm_id, ()):
            changed.set()

    def connected(self, node_id: str) -> bool:
        return self._connected[node_id] > 0

    def open_channels(self) -> int:
        return sum(self._connected.values())
