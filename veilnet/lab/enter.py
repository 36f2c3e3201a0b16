# SPDX-License-Identifier: Apache-2.0
"""Run a function inside a network namespace, in a thread of its own: no process, no fork.

A socket stays in the namespace that it was made in, so it may be used from outside afterwards.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace: Path, function: Callable[[], Result]) -> Result:
    """What `function` returns, or raises. OSError when there is no such namespace."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,)) as pool:
        return pool.submit(function).result()


def enter(namespace: Path) -> None:
    """Move the calling thread, and no other, into a namespace."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    finally:
        os.close(descriptor)
