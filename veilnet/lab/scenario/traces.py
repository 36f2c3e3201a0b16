# SPDX-License-Identifier: Apache-2.0
"""What became of a flow's packets: times of sending and of arrival by number, and the figures made of them."""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

RECORD: Final = struct.Struct("<QQ")
"""Sequence number and CLOCK_MONOTONIC nanoseconds, as the probe writes them."""


@dataclass(frozen=True, slots=True)
class Packet:
    sent: float
    """Seconds from the scenario's start."""
    delay: float | None
    """Seconds on the way; None: lost."""


@dataclass(frozen=True, slots=True)
class Bin:
    start: float
    sent: int
    lost: int
    median: float | None
    worst: float | None


class TraceError(ValueError):
    """A probe's file is not what a probe writes."""


class Trace:
    """Packets in order of sending. Duplicates count once, with their first arrival."""

    def __init__(self, packets: Sequence[Packet], duplicates: int = 0) -> None:
        self.packets = packets
        self.duplicates = duplicates
        self._times = [packet.sent for packet in packets]

    @classmethod
    def of_files(cls, sent: bytes, received: bytes, start_ns: int) -> Trace:
        """From what sender and receiver wrote. Raises TraceError."""
        arrivals: dict[int, int] = {}
        duplicates = 0
        for number, at in _records(received):
            duplicates += number in arrivals
            arrivals.setdefault(number, at)
        packets = []
        for number, at in _records(sent):
            arrival = arrivals.pop(number, None)
            packets.append(Packet((at - start_ns) / 1e9, None if arrival is None else (arrival - at) / 1e9))
        if arrivals:
            raise TraceError(f"{len(arrivals)} packets arrived that were never sent")
        return cls(sorted(packets, key=lambda packet: packet.sent), duplicates)

    def between(self, since: float, until: float) -> Sequence[Packet]:
        return self.packets[bisect_left(self._times, since) : bisect_left(self._times, until)]

    def loss(self, since: float, until: float) -> float:
        """Share lost of what was sent in [since, until); NaN when nothing was sent."""
        found = self.between(since, until)
        return sum(packet.delay is None for packet in found) / len(found) if found else math.nan

    def outage(self, since: float, until: float) -> float:
        """Longest time in [since, until) in which every packet sent was lost; infinite if it lasts to the end.

        From the sending of the first lost packet of a run to that of the next delivered one, so it is exact to one
        interval of sending.
        """
        longest, begun = 0.0, None
        for packet in self.between(since, until):
            if packet.delay is None:
                begun = packet.sent if begun is None else begun
            elif begun is not None:
                longest, begun = max(longest, packet.sent - begun), None
        return longest if begun is None else math.inf

    def delay(self, since: float, until: float, share: float) -> float:
        """Quantile of the one-way delay of what arrived; NaN when nothing did."""
        found = sorted(packet.delay for packet in self.between(since, until) if packet.delay is not None)
        return found[min(len(found) - 1, math.ceil(share * len(found)) - 1)] if found else math.nan

    def bins(self, width: float, end: float) -> Iterator[Bin]:
        """The whole of it in steps of `width` seconds, for plots."""
        for index in range(math.ceil(end / width)):
            found = self.between(index * width, (index + 1) * width)
            delays = sorted(packet.delay for packet in found if packet.delay is not None)
            middle = delays[len(delays) // 2] if delays else None
            yield Bin(index * width, len(found), len(found) - len(delays), middle, delays[-1] if delays else None)


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    if len(data) % RECORD.size:
        raise TraceError(f"{len(data)} bytes are no whole number of records of {RECORD.size}")
    return RECORD.iter_unpack(data)
