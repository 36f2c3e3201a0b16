# SPDX-License-Identifier: Apache-2.0
"""When a device gets a thread: many bytes in large packets, and not for a moment's pause."""

from __future__ import annotations

import pytest

from veilnet.keyd.napi import CALM_SECONDS, Governor, Traffic
from veilnet.keyd.spread import read_traffic

LARGE, SMALL = 1400, 120


class Flow:
    """Feeds a governor with seconds of traffic."""

    def __init__(self) -> None:
        self.governor = Governor()
        self.now, self.bytes, self.packets = 100.0, 0, 0
        self.second(0, LARGE)

    def second(self, packets: int, size: int) -> bool:
        self.now += 1.0
        self.bytes += packets * size
        self.packets += packets
        return self.governor.update(Traffic(self.bytes, self.packets), self.now)


@pytest.mark.parametrize(
    ("packets", "size", "threaded"),
    [
        (80_000, LARGE, True),
        (100_000, SMALL, False),  # a flood of small packets
        (400_000, SMALL, False),  # as many bytes as the first, in small packets
        (5_000, LARGE, False),
        (0, LARGE, False),
    ],
)
def test_first_second_decides(packets: int, size: int, threaded: bool) -> None:
    assert Flow().second(packets, size) is threaded


def test_a_pause_does_not_end_it_but_the_end_does() -> None:
    flow = Flow()
    assert flow.second(80_000, LARGE)
    for _ in range(int(CALM_SECONDS)):
        assert flow.second(1_000, LARGE)
    assert not flow.second(1_000, LARGE)


def test_small_packets_end_it_at_once() -> None:
    flow = Flow()
    assert flow.second(80_000, LARGE)
    assert not flow.second(80_000, SMALL)


def test_between_the_thresholds_it_stays_as_it_is() -> None:
    flow = Flow()
    assert not flow.second(15_000, LARGE)
    flow.second(80_000, LARGE)
    for _ in range(10):
        assert flow.second(15_000, LARGE)


def test_time_that_stands_still_changes_nothing() -> None:
    governor = Governor()
    governor.update(Traffic(0, 0), 5.0)
    assert not governor.update(Traffic(10**9, 10**6), 5.0)


def test_traffic_is_read_from_the_kernels_table() -> None:
    table = "Inter-|   Receive\n veil0: 10 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\nveil0p: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
    assert read_traffic("veil0", table) == (Traffic(10, 2), Traffic(30, 4))
    assert read_traffic("veil1", table) == (Traffic(0, 0), Traffic(0, 0))
