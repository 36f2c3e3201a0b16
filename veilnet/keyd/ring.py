# SPDX-License-Identifier: Apache-2.0
"""The event ring as keyd reads it: what cannot wait at once, what strangers and newcomers ask for in turn.

The data plane lets only so many events of newcomers into the ring (`struct veil_event_share`). An event that waits here
still counts as in the ring, so a flood ends in the data plane and not in Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

from veilnet import contract as c
from veilnet.keyd.inbox import Inbox
from veilnet.loader.libbpf import RingBuffer
from veilnet.loader.maps import Maps

_HEAD: Final = ctypes.sizeof(c.Event) - c.EVENT_DATA_MAX

Handle = Callable[[c.Event, bytes], None]


class EventRing:
    """`handle` gets each event's fixed part and its data."""

    def __init__(self, maps: Maps, handle: Handle) -> None:
        self._ring = RingBuffer(maps.fd("events"))
        self._share = maps.event_share
        self._handle = handle
        self._raised = [0] * len(self._share.raised)
        self._inboxes: dict[int, Inbox[bytes]] = {c.PART_KNOCK: Inbox(), c.PART_TRANSIT: Inbox()}

    def fileno(self) -> int:
        return self._ring.fileno()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._inboxes.values()))

    @property
    def dropped(self) -> int:
        """Events that made way for those of others."""
        return sum(inbox.dropped for inbox in self._inboxes.values())

    def read(self) -> None:
        """Empty the ring: handle what cannot wait, keep the rest for `work`."""
        self._raised = list(self._share.raised)  # before: what comes meanwhile is taken next time
        for record in self._ring.consume():
            if len(record) < _HEAD:
                continue
            event = _event(record)
            part, flow = part_of(event)
            if part is None:
                self._handle(event, record[_HEAD : _HEAD + event.len])
            else:
                self._inboxes[part].put(flow, record)
        self._give_back()

    def work(self) -> None:
        """Handle one event of each part that waits."""
        for inbox in self._inboxes.values():
            record = inbox.take()
            if record is not None:
                event = _event(record)
                self._handle(event, record[_HEAD : _HEAD + event.len])
        self._give_back()

    def _give_back(self) -> None:
        for part, raised in enumerate(self._raised):
            held = len(self._inboxes[part]) if part in self._inboxes else 0
            self._share.taken[part] = (raised - held) % (1 << 64)

    def close(self) -> None:
        self._ring.close()


def part_of(event: c.Event) -> tuple[int | None, bytes]:
    """The inbox that an event belongs into and the flow there: knocks by source address, bodies of circuits without a
    stream by label. (None, b""): control of a link or stream, and our own host's packets, which do not wait."""
    if event.type == c.EVENT_KNOCK:
        return c.PART_KNOCK, bytes(event.addrs.remote)
    if event.type == c.EVENT_CONTROL and event.label and not event.stream:
        return c.PART_TRANSIT, int(event.label).to_bytes(4, "little")
    return None, b""


def _event(record: bytes) -> c.Event:
    return c.Event.from_buffer_copy(record.ljust(ctypes.sizeof(c.Event), b"\0"))
