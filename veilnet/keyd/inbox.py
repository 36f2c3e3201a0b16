# SPDX-License-Identifier: Apache-2.0
"""Work that someone unknown asks for: bounded, and taken in turn, so that who asks for much waits for himself."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

PER_FLOW: Final = 32
"""More than the handshakes of a few nodes behind one address need at once."""
TOTAL: Final = 1024

T = TypeVar("T")


class Inbox(Generic[T]):
    """Flows are served round robin. A flow that is too long loses its oldest item; so does the longest of all flows
    when they are too many together."""

    def __init__(self) -> None:
        self._flows: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._total = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._total

    def put(self, flow: Hashable, item: T) -> None:
        items = self._flows.setdefault(flow, deque())
        items.append(item)
        self._total += 1
        if len(items) > PER_FLOW:
            self._drop(flow)
        elif self._total > TOTAL:
            self._drop(max(self._flows, key=lambda name: len(self._flows[name])))

    def take(self) -> T | None:
        """The oldest item of the flow whose turn it is; None if there is no work."""
        if not self._flows:
            return None
        flow, items = self._flows.popitem(last=False)
        item = items.popleft()
        self._total -= 1
        if items:
            self._flows[flow] = items
        return item

    def _drop(self, flow: Hashable) -> None:
        items = self._flows[flow]
        items.popleft()
        self._total -= 1
        self.dropped += 1
        if not items:
            del self._flows[flow]
