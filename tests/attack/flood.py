# SPDX-License-Identifier: Apache-2.0
"""Datagrams of members who send more than they should, into the real program."""

from __future__ import annotations

import ctypes
import time
from collections import Counter

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import HS_BODY, IN, KNOCK, PORT, packet, sip_key
from veilnet import contract as c
from veilnet.loader import libbpf

RECORD = 8 + ctypes.sizeof(c.Event)
ROOM = c.EVENT_BYTES // RECORD
"""Events that an empty ring takes."""


class Flood:
    """Tells what becomes of each datagram; nobody reads the ring meanwhile, as when keyd can't keep up."""

    def __init__(self, world: h.World, fd: int) -> None:
        self._world, self._fd = world, fd
        world.put_knock(0, KNOCK[0])
        world.config.knock_port = PORT
        self._serial = 0

    def keyd_reads(self) -> None:
        self._world.drain()

    def send(self, frames: list[bytes]) -> tuple[Counter[str], float]:
        """What becomes of the packets, and the seconds that it took."""
        before, start = self._world.reasons(), time.monotonic()
        for frame in frames:
            libbpf.test_run(self._fd, frame)
        seconds, after = time.monotonic() - start, self._world.reasons()
        return Counter({name: after[name] - before[name] for name in c.REASONS if after[name] != before[name]}), seconds

    def one(self, frame: bytes) -> str:
        (reason,) = self.send([frame])[0]
        return reason

    def knock(self, flow: o.Flow) -> bytes:
        """A fresh one each time."""
        self._serial += 1
        body = self._serial.to_bytes(8, "little") + HS_BODY[8:]
        return packet(o.handshake(KNOCK[0], body), flow)

    def control(self, flow: o.Flow, key: str, label: int = 0) -> bytes:
        self._serial += 1
        return packet(o.seal(sip_key(key), label, 64, self._serial, HS_BODY), flow)


def source(number: int) -> o.Flow:
    return o.Flow(f"203.0.{number // 250}.{number % 250 + 1}", 1024 + number, IN.dst, PORT)


def neighbour(number: int) -> o.Flow:
    return o.Flow(f"198.51.100.{number}", 9000, IN.dst, PORT)
