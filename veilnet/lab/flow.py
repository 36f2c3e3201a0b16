# SPDX-License-Identifier: Apache-2.0
"""A numbered UDP flow that shows every lost packet.

    python -m veilnet.lab.flow send ADDRESS PORT RATE SECONDS [SIZE]     prints {"sent": n}; SIGTERM ends it earlier
    python -m veilnet.lab.flow receive ADDRESS PORT IDLE_SECONDS         prints {"received": distinct, "duplicates": n,
                                                                          "longest_gap_ms": x} after that much silence

Payload: sequence number, 8 bytes little-endian, then zeros up to SIZE.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time

SIZE = 64
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; the socket module does not name it
_SEQUENCE = struct.Struct("<Q")
_BUFFER = 8 * 1024 * 1024
LATE = 0.05
"""Seconds behind the clock that are caught up with: a longer burst would not fit the ring of a veth (256 frames)."""


def send(address: str, port: int, rate: float, seconds: float, size: int = SIZE) -> dict[str, int]:
    """`rate * seconds` packets, paced by the clock; when the sender had no CPU for long the rest comes later."""
    padding = bytes(size - _SEQUENCE.size)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: stopped.append(signum))
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        start = time.monotonic()
        print("ready", flush=True)
        number = 0
        while not stopped and number < rate * seconds:
            wait = start + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            start += max(0.0, -wait - LATE)
            sender.send(_SEQUENCE.pack(number) + padding)
            number += 1
    return {"sent": number}


def receive(address: str, port: int, idle: float) -> dict[str, float]:
    """Counts distinct numbers until nothing has come for `idle` seconds after the first packet."""
    seen: set[int] = set()
    count, longest, last = 0, 0.0, 0.0
    with socket.socket(_family(address), socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
        receiver.bind((address, port))
        print("ready", flush=True)
        receiver.settimeout(60)
        try:
            while True:
                data = receiver.recv(2048)
                now = time.monotonic()
                longest, last = max(longest, now - last if last else 0.0), now
                seen.add(_SEQUENCE.unpack_from(data)[0])
                count += 1
                receiver.settimeout(idle)
        except TimeoutError:
            pass
    return {"received": len(seen), "duplicates": count - len(seen), "longest_gap_ms": round(longest * 1000, 1)}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> int:
    kind, address, port, *numbers = sys.argv[1:]
    if kind == "send":
        rate, seconds, *size = map(float, numbers)
        print(json.dumps(send(address, int(port), rate, seconds, *map(int, size))))
    else:
        print(json.dumps(receive(address, int(port), float(numbers[0]))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
