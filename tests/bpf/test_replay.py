# SPDX-License-Identifier: Apache-2.0
"""The link's replay window, through veil_rx: a numbered table, then random histories against a model made of sets."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import BODY, K_IN, K_OUT, base, frame, wire
from veilnet import contract as c
from veilnet.loader import libbpf
from veilnet.protocol.frame import ReplayWindow

pytestmark = pytest.mark.root
UNKNOWN_LABEL = 9
SPAN = 32 * c.LINK_WIN_WORDS
REACH = 32 * (c.LINK_WIN_WORDS - 1)
"""How far behind the newest counter a fresh one must still be taken."""
TOP = (1 << 32) - 1

# (counter, taken)
TABLE = [
    (0, True),
    (0, False),
    (1, True),
    (1, False),
    (9, True),
    (8, True),
    (7, True),
    (7, False),
    (31, True),
    (32, True),
    (32, False),
    (31, False),
    (REACH, True),
    (2, True),
    (REACH + 31, True),
    (3, True),
    (SPAN, True),
    (4, False),
    (31, False),
    (33, True),
    (SPAN - 2, True),
    (SPAN - 1, False),
    (SPAN + 1, True),
    (SPAN, False),
    (SPAN * 3 + 5, True),
    (SPAN * 2 + 5, False),
    (SPAN * 3 + 5 - REACH, True),
    (SPAN * 3 + 5 - REACH, False),
    (SPAN * 3 + 6, True),
    (TOP, True),
    (TOP, False),
    (TOP - 1, True),
    (TOP - REACH, True),
    (TOP - REACH - 31, True),
    (TOP - REACH - 31, False),
    (TOP - SPAN, False),
    (0, False),
]


def accepted(rx: int, counter: int) -> bool:
    """A frame of unknown label is dropped once it has been taken, and passed when the window refuses it."""
    run = libbpf.test_run(rx, wire(frame(UNKNOWN_LABEL, counter=counter, body=BODY[:16], key=K_IN)))
    assert run.verdict in (h.XDP_DROP, h.XDP_PASS)
    return run.verdict == h.XDP_DROP


def model(counters: Iterable[int]) -> list[bool]:
    """Which counters are taken: never twice, and never below a higher block that shares the word."""
    taken: set[int] = set()
    answers = []
    for counter in counters:
        block = counter // 32
        newer = any(t // 32 > block and (t // 32 - block) % c.LINK_WIN_WORDS == 0 for t in taken)
        answers.append(counter not in taken and not newer)
        if answers[-1]:
            taken.add(counter)
    return answers


def test_boundary_table(world: h.World, rx: int) -> None:
    base(world)
    answers = [(counter, accepted(rx, counter)) for counter, _ in TABLE]
    assert [*enumerate(answers)] == [*enumerate(TABLE)]


def test_table_agrees_with_the_model() -> None:
    assert model(counter for counter, _ in TABLE) == [taken for _, taken in TABLE]


# counters around a place, so that blocks, words and the window's end all meet
PLACES = st.sampled_from([0, 31, 32, REACH, SPAN, 5 * SPAN, 1 << 31, TOP - 2 * SPAN])
COUNTERS = st.builds(lambda place, step: min(place + step, TOP), PLACES, st.integers(0, 2 * SPAN))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(counters=st.lists(COUNTERS | st.integers(0, 40), max_size=60))
def test_random_histories(world: h.World, rx: int, counters: list[int]) -> None:
    world.reset()
    base(world)
    answers = [accepted(rx, counter) for counter in counters]
    assert answers == model(counters)
    window = ReplayWindow(c.LINK_WIN_WORDS)
    assert answers == [window.accept(counter) for counter in counters]
    assert window.words == list(world.links[1].win[0])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(counters=st.permutations(range(0, REACH, 37)), start=st.integers(0, TOP - REACH))
def test_any_order_within_reach_is_taken_once(world: h.World, rx: int, counters: list[int], start: int) -> None:
    world.reset()
    base(world)
    assert all(accepted(rx, start + counter) for counter in counters)
    assert not any(accepted(rx, start + counter) for counter in counters)


def test_two_threads_take_each_frame_once(world: h.World, rx: int) -> None:
    """The same frames on two CPUs at a time: every one is taken exactly once, and none is lost."""
    base(world)
    count = 4000
    frames = [wire(frame(UNKNOWN_LABEL, counter=n, body=BODY[:16], key=K_IN)) for n in range(count)]
    start = threading.Barrier(2)

    def run(_thread: int) -> list[bool]:
        start.wait()
        return [libbpf.test_run(rx, data).verdict == h.XDP_DROP for data in frames]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * count


def test_two_threads_use_no_send_counter_twice(world: h.World, ctl: int) -> None:
    base(world)
    request = bytes(c.CtlReq(link=2)) + BODY
    start = threading.Barrier(2)

    def run(_thread: int) -> list[int]:
        start.wait()
        frames = [o.unseal(K_OUT, libbpf.test_run(ctl, request).data) for _ in range(2000)]
        return [f.counter for f in frames if f]

    with ThreadPoolExecutor(2) as pool:
        taken = [counter for counters in pool.map(run, range(2)) for counter in counters]
    assert sorted(taken) == list(range(4000))
