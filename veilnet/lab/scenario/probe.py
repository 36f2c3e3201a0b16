# SPDX-License-Identifier: Apache-2.0
"""One end of a flow, inside a node; writes (number, time) of every packet to a file.

    python -m veilnet.lab.scenario.probe send ADDRESS PORT RATE SECONDS SIZE FILE
    python -m veilnet.lab.scenario.probe receive ADDRESS PORT FILE        until SIGTERM and a silence after it

Both print `ready`. The sender starts when a line arrives on its standard input, so that several start together.
Payload: number, 8 bytes little-endian, then zeros. Times are CLOCK_MONOTONIC, which namespaces of one host share.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from veilnet.lab.scenario.traces import RECORD

LINGER: Final = 0.3
"""Seconds without a packet after which a receiver that was told to end ends."""
_NUMBER: Final = struct.Struct("<Q")
_BUFFER: Final = 8 << 20
_RCVBUFFORCE: Final = 33  # asm-generic/socket.h


def send(address: str, port: int, rate: float, seconds: float, size: int, log: BinaryIO) -> None:  # noqa: PLR0917
    """Evenly spaced by the clock: a delay is caught up with, so that the number is exact."""
    padding = bytes(size - _NUMBER.size)
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.monotonic()
        for number in range(round(rate * seconds)):
            wait = start + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            log.write(RECORD.pack(number, time.monotonic_ns()))
            try:
                sender.send(_NUMBER.pack(number) + padding)
            except OSError:  # no route, a full queue: the packet is lost, which is what is measured
                continue


def receive(address: str, port: int, log: BinaryIO) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: stopped.append(signum))
    with socket.socket(_family(address), socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        receiver.bind((address, port))
        receiver.settimeout(LINGER)
        print("ready", flush=True)
        while True:
            try:
                data = receiver.recv(65536)
            except TimeoutError:
                if stopped:
                    return
                continue
            now = time.monotonic_ns()
            if len(data) >= _NUMBER.size:
                log.write(RECORD.pack(*_NUMBER.unpack_from(data), now))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> int:
    kind, address, port, *rest = sys.argv[1:]
    with Path(rest[-1]).open("wb") as log:
        if kind == "send":
            rate, seconds, size = rest[:3]
            send(address, int(port), float(rate), float(seconds), int(size), log)
        else:
            receive(address, int(port), log)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
