# SPDX-License-Identifier: Apache-2.0
"""A network namespace of the test's own, entered by the test's thread and gone afterwards."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from veilnet.loader import dataplane, pins

INSTANCE = f"{os.environ.get('VEILNET_LAB_PREFIX') or f'x{os.getpid()}'}loader"
"""This run's own, so that two runs side by side don't meet."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_netns() -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert _libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _libc.setns(home, _CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture
def netns() -> Iterator[None]:
    """n0 and n1, a veth pair, up."""
    with own_netns():
        with IPRoute() as ip:
            ip.link("add", ifname="n0", kind="veth", peer={"ifname": "n1"})
            for name in ("n0", "n1"):
                ip.link("set", ifname=name, state="up")
        yield
        dataplane.down(INSTANCE)


@pytest.fixture
def pin_dir() -> Iterator[Path]:
    """A pin directory without maps."""
    path = pins.instance_dir(INSTANCE)
    pins.remove_dir(path)
    yield path
    pins.remove_dir(path)
