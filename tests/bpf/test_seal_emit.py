# SPDX-License-Identifier: Apache-2.0
"""veil_emit: only frames that veil_seal marked go on, and they go through the neighbour table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bpf import streams
from tests.bpf.harness import World
from tests.bpf.streams import STREAM, from_host, inner4, inner6
from veilnet import contract as c
from veilnet.loader import program

pytestmark = pytest.mark.root

TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7


@pytest.fixture
def emit(world: World) -> Iterator[int]:
    with program.load("veil_emit.c", world.pins, prog_type="sched_cls") as loaded:
        yield loaded.fd


def test_sealed_frames_go_on(world: World, emit: int, load_program: Callable[[str], int]) -> None:
    streams.setup(world)
    world.config.emit = c.EMIT_TC
    with streams.routes(world, {"10.9.0.0/24": (streams.PEER, STREAM)}):
        sealed = world.run(load_program("veil_seal.c"), from_host(inner4(300))).packet
    done = world.run(emit, sealed)
    assert (done.verdict, done.reasons, done.packet) == (TC_ACT_REDIRECT, {"OK_EMIT": 1}, sealed)


MARK = b"\x02\x00\x01\x00\x00\x00"
PLAIN = {
    "as the host sends it": from_host(inner4(100)),
    "IPv6": from_host(inner6(100)),
    "mark, but interface 0": from_host(inner4(100))[:6] + MARK[:2] + bytes(4) + from_host(inner4(100))[12:],
    "half a mark": from_host(inner4(100))[:6] + b"\x02\x01" + MARK[2:] + from_host(inner4(100))[12:],
    "mark on IPv6": from_host(inner6(100))[:6] + MARK + from_host(inner6(100))[12:],
    "mark on ARP": from_host(inner4(100))[:6] + MARK + b"\x08\x06" + bytes(46),
}


@pytest.mark.parametrize("name", PLAIN)
def test_everything_else_stops(world: World, emit: int, name: str) -> None:
    done = world.run(emit, PLAIN[name])
    assert (done.verdict, done.reasons) == (TC_ACT_SHOT, {"DROP_INNER_NOT_IP": 1})
