# SPDX-License-Identifier: Apache-2.0
"""Calls of `crypto_entry.c`: one packet carries the arguments in and the results out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from veilnet.loader import libbpf, program

SOURCE = Path(__file__).with_name("crypto_entry.c")
TEXT = 96
TOO_SHORT, REFUSED, RAN = 0, 1, 2


@dataclass
class Args:
    """`struct args` of crypto_entry.c; lengths in bytes: key 32, nonce 12, aad <= 16, tag 16."""

    key: bytes = bytes(32)
    nonce: bytes = bytes(12)
    counter: int = 0
    aad: bytes = b""
    tag: bytes = bytes(16)
    words: int = 0
    text: bytes = b""

    def pack(self) -> bytes:
        aad = self.aad.ljust(16, b"\0")
        head = struct.pack("<I16sQ16sQ", self.counter, aad, len(self.aad), self.tag, self.words)
        return self.key + self.nonce + head + self.text


@dataclass(frozen=True)
class Result:
    verdict: int
    packet: bytes = field(repr=False)

    @property
    def aad(self) -> bytes:
        return self.packet[48:64]

    @property
    def aad_len(self) -> bytes:
        return self.packet[64:72]

    @property
    def tag(self) -> bytes:
        return self.packet[72:88]

    @property
    def text(self) -> bytes:
        return self.packet[TEXT:]


class Entry:
    """One program of crypto_entry.c, loaded."""

    def __init__(self, function: str, *cflags: str) -> None:
        self.program = program.load(str(SOURCE), Path("/none"), function=function, cflags=cflags)

    def __call__(self, args: Args) -> Result:
        run = libbpf.test_run(self.program.fd, args.pack())
        return Result(run.verdict, run.data)

    def close(self) -> None:
        self.program.close()
