# SPDX-License-Identifier: Apache-2.0
"""A stream or link is taken down and wiped while another CPU is sealing or opening packets with its keys."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.bpf import cases, oracle, streams
from tests.bpf.harness import XDP_REDIRECT, XDP_TX, World
from tests.bpf.streams import LINK, PEER, STREAM, from_host, inner4
from tests.patience import PATIENCE
from veilnet import contract as c
from veilnet.loader import libbpf
from veilnet.loader.maps import wipe
from veilnet.protocol.errors import RemoteError
from veilnet.protocol.frame import open_stream

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs"),
]

TRIES = 30_000
REFILL = 1e-3
"""Seconds from wiping an entry to filling it again: longer than a run of the program. A run that took as long, on a CPU
that a hypervisor took away, says nothing."""

SOAK_TRIES = 4_000_000
SOON = 2e-5
"""The same for a hop, which takes a fraction of a microsecond."""
OUT_LINK = 2


@pytest.fixture
def seal(world: World, load_program: Callable[[str], int]) -> Iterator[int]:
    streams.setup(world)
    with streams.routes(world, {"10.9.0.0/24": (PEER, STREAM)}):
        yield load_program("veil_seal.c")


def take_down_and_up(entry: Any, refill: float, at_once: bool) -> None:
    """As keyd does it: flag, then wipe; `refill` seconds later the entry is filled again, the flag last. `at_once`: no
    time passes between flag and wipe, as for a CPU that is held up meanwhile."""
    flag = "state" if hasattr(entry, "state") else "valid"
    up, filled, offset = getattr(entry, flag), bytearray(entry), getattr(type(entry), flag).offset
    filled[offset : offset + 4] = bytes(4)
    while True:
        if not at_once:
            setattr(entry, flag, 0)
        wipe(entry)
        pause(refill)
        ctypes.memmove(ctypes.addressof(entry), bytes(filled), len(filled))
        setattr(entry, flag, up)
        pause(50e-6)


def pause(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@contextmanager
def churn(entry: Any, refill: float = REFILL, *, at_once: bool = False) -> Iterator[None]:
    child = os.fork()
    if child == 0:
        try:
            take_down_and_up(entry, refill, at_once)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def tries(seen: Counter[str]) -> Iterator[int]:
    """TRIES, and more until 100 packets were `carried`: the entry is down while the child has no CPU."""
    end = time.monotonic() + PATIENCE
    for number in itertools.count():
        if number >= TRIES and (seen["carried"] > 100 or time.monotonic() > end):
            return
        yield number


@pytest.mark.parametrize("what", ["stream", "link"])
def test_nothing_leaves_under_a_wiped_key(world: World, seal: int, what: str) -> None:
    inner = inner4(c.INNER_MAX)
    seen: Counter[str] = Counter()
    entry = world.streams[STREAM] if what == "stream" else world.links[LINK]
    with churn(entry):
        for _ in tries(seen):
            run = libbpf.test_run(seal, from_host(inner))
            if run.retval != XDP_REDIRECT or run.duration_ns > REFILL * 1e9:
                continue
            seen["carried"] += 1
            frame = oracle.unseal(streams.HOP_TX, run.data[42:])
            try:
                assert frame is not None
                open_stream({0: streams.TX_KEYS[0]}, streams.TX_HP, frame.body)
            except (RemoteError, AssertionError):
                seen["bad"] += 1
    assert seen["carried"] > 100
    assert seen["bad"] == 0, seen


def test_nothing_is_opened_with_a_wiped_key(world: World, load_program: Callable[[str], int]) -> None:
    """What authenticates is deciphered with the whole key, or dropped."""
    stream, rx = streams.setup(world), load_program("veil_rx.c")
    world.put_circuit(77, kind=c.CIRCUIT_END, in_link=LINK, stream=STREAM)
    inner = inner4(c.INNER_MAX, src=streams.PEER4, dst=streams.HERE4)
    want = streams.ethernet(streams.MAC0, streams.MAC0P, inner)
    outer = bytes(oracle.packet(streams.FLOW, bytes(c.FRAME_LEN + c.STREAM_LEN + c.INNER_MAX)))[:42]
    owners = {f"{streams.PEER4}/32": (PEER, STREAM), f"{streams.HERE4}/32": streams.OWN}
    seen: Counter[str] = Counter()
    before = world.reasons()
    with streams.routes(world, owners), churn(stream):
        for i in tries(seen):
            body = oracle.seal_stream(streams.RX_KEYS[0], streams.RX_HP, i, 0, 0, inner)
            run = libbpf.test_run(rx, outer + oracle.seal(streams.HOP_RX, 77, 1, i, body))
            redirected = run.retval == XDP_REDIRECT and run.duration_ns <= REFILL * 1e9
            seen["carried"] += redirected
            seen["bad"] += redirected and run.data != want
    reasons = {reason for reason, count in world.reasons().items() if count > before[reason]}
    assert seen["carried"] > 100
    assert seen["bad"] == 0, seen
    assert not {"DROP_INNER_BAD", "DROP_INNER_SRC", "DROP_INNER_NOT_OURS"} & reasons


@pytest.mark.soak
def test_nothing_is_forwarded_under_a_wiped_key(world: World, load_program: Callable[[str], int]) -> None:
    """A relay's way out goes while frames pass: what leaves is sealed for the next hop, or dropped. The time in which
    it could go wrong is a few ns: without the last look at the link one of two million frames left under zeros."""
    rx = load_program("veil_rx.c")
    cases.base(world)
    seen: Counter[str] = Counter()
    with churn(world.links[OUT_LINK], SOON, at_once=True):
        for counter in range(SOAK_TRIES):
            run = libbpf.test_run(rx, cases.wire(cases.frame(counter=counter)))
            if run.retval == XDP_TX and run.duration_ns <= SOON * 1e9:
                seen["carried"] += 1
                seen["bad"] += oracle.unseal(cases.K_OUT, run.data[42:]) is None
    assert seen["carried"] > 100
    assert seen["bad"] == 0, seen
