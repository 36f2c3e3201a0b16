# SPDX-License-Identifier: Apache-2.0
"""Pings from many namespaces at once, with the do-not-fragment bit and of a size to the byte."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from veilnet.lab.enter import inside
from veilnet.lab.topology.model import Address

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE = 10, 23, 3  # linux/in.h, in6.h; PROBE: DF, and no cached path MTU
_IPV6_DONTFRAG = 62
_HEADERS = {4: 28, 6: 48}  # IP and ICMP
AGAIN = 0.4
"""Seconds between tries."""


@dataclass(slots=True)
class Echo:
    """One request to make and whether its answer is expected."""

    namespace: Path
    address: Address
    size: int
    """Bytes of the whole IP packet."""
    expected: bool
    answered: bool = False
    tries: int = 0


@dataclass
class _Line:
    """A raw socket in a namespace, and the echoes that leave by it."""

    socket: socket.socket
    version: int
    echoes: list[Echo] = field(default_factory=list)


def run(echoes: Sequence[Echo], patience: float, silence: float) -> None:
    """Send every echo; mark those that are answered.

    What is expected is tried again for `patience` seconds, and three times however long that takes; what is not is
    tried three times and waited for `silence` seconds.
    """
    lines = _lines(echoes)
    ident = os.getpid() & 0xFFFF
    start, rounds = time.monotonic(), 0
    try:
        while True:
            rounds += 1
            _send_all(lines, ident)
            _collect(lines, ident, AGAIN)
            passed = time.monotonic() - start
            waiting = any(echo.expected and not echo.answered for echo in echoes)
            if rounds >= 3 and (passed > patience or not waiting):
                break
        if any(not echo.expected for echo in echoes):
            _collect(lines, ident, silence)
    finally:
        for line in lines:
            line.socket.close()


def _lines(echoes: Sequence[Echo]) -> list[_Line]:
    found: dict[tuple[Path, int], list[_Line]] = {}
    for echo in echoes:
        key = (echo.namespace, echo.address.version)
        mine = found.setdefault(key, [])
        if not mine or len(mine[-1].echoes) > 0xFFFF:
            mine.append(_Line(inside(echo.namespace, lambda key=key: _open(key[1])), key[1]))  # type: ignore[misc]
        mine[-1].echoes.append(echo)
    return [line for mine in found.values() for line in mine]


def _open(version: int) -> socket.socket:
    if version == 4:
        line = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        line.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
    else:
        line = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        line.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
        line.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    line.setblocking(False)
    return line


def _send_all(lines: list[_Line], ident: int) -> None:
    for line in lines:
        for sequence, echo in enumerate(line.echoes):
            if echo.answered or (not echo.expected and echo.tries >= 3):
                continue
            echo.tries += 1
            with contextlib.suppress(OSError):  # no route, or longer than the device takes: as good as no answer
                line.socket.sendto(_request(line.version, ident, sequence, echo.size), _target(echo.address))
        _collect(lines, ident, 0.005)


def _target(address: Address) -> tuple[str, int]:
    return str(address), 0


def _request(version: int, ident: int, sequence: int, size: int) -> bytes:
    """The kernel fills in ICMPv6's checksum."""
    kind = 8 if version == 4 else 128
    head = struct.pack("!BBHHH", kind, 0, 0, ident, sequence)
    body = head + bytes(size - _HEADERS[version])
    if version == 4:
        body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    return body


def _checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _collect(lines: list[_Line], ident: int, seconds: float) -> None:
    """Take answers in for so long."""
    poll = select.poll()
    by_descriptor = {line.socket.fileno(): line for line in lines}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            _drain(by_descriptor[descriptor], ident)


def _drain(line: _Line, ident: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            data, source = line.socket.recvfrom(65536)
            message = data[4 * (data[0] & 15) :] if line.version == 4 else data
            kind, _, _, found, sequence = struct.unpack_from("!BBHHH", message)
            if kind == (0 if line.version == 4 else 129) and found == ident and sequence < len(line.echoes):
                echo = line.echoes[sequence]
                whole = len(data) if line.version == 4 else len(data) + 40
                if whole == echo.size and source[0] == str(echo.address):
                    echo.answered = True
