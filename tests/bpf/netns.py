# SPDX-License-Identifier: Apache-2.0
"""The calling thread in a network namespace of its own, for test runs that need routes and neighbours."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from pathlib import Path
from types import TracebackType

CLONE_NEWNET = 0x40000000


class Namespace:
    """Context manager: this thread moves into a fresh, unnamed namespace and back; it is gone when left."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = -1

    def __enter__(self) -> Namespace:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if self._libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"unshare for {self.name}")
        self.ip("link set lo up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._libc.setns(self._home, CLONE_NEWNET)
        os.close(self._home)

    def ip(self, *commands: str) -> str:
        """Run `ip` with each argument line; what the last one printed."""
        out = ""
        for command in commands:
            out = subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout
        return out

    def mac(self, device: str) -> str:
        return str(json.loads(self.ip(f"-j link show dev {device}"))[0]["address"])

    @staticmethod
    def write(path: str, value: str) -> None:
        Path(path).write_text(value, encoding="ascii")
