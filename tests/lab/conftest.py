# SPDX-License-Identifier: Apache-2.0
"""Labs that are this run's own, removed whatever happens."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from veilnet.lab import leftovers
from veilnet.lab.fleet import Fleet
from veilnet.lab.lab import Lab

_COUNT = itertools.count()
_PREFIX = f"{os.environ.get('VEILNET_LAB_PREFIX') or f'x{os.getpid()}'}t"


def fresh_name() -> str:
    """A lab name that no other run uses; `run` removes all labs of its prefix whatever happens to pytest."""
    return f"{_PREFIX}{next(_COUNT)}"


@pytest.fixture(scope="package", autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a lab of this run leaves behind fails the run."""
    before = leftovers.host() if os.geteuid() == 0 else set()
    yield
    if os.geteuid() == 0:
        found = leftovers.traces(_PREFIX) + sorted(leftovers.host() ^ before)
        assert not found, "left behind by labs of this run"


@pytest.fixture
def lab_name() -> str:
    return fresh_name()


@pytest.fixture
def make_lab() -> Iterator[Callable[[str], Lab]]:
    """Makes a bare lab, namespaces and links only, from a topology (name or path); removed after the test."""
    with ExitStack() as stack:

        def make(topology: str) -> Lab:
            lab = Lab(fresh_name())
            stack.callback(lab.down)
            lab.up(topology)
            return lab

        yield make


@contextmanager
def running(topology: str) -> Iterator[Fleet]:
    lab = Lab(fresh_name())
    try:
        lab.up(topology)
        fleet = Fleet(lab)
        fleet.start(print)
        yield fleet
    finally:
        lab.down()


@pytest.fixture(scope="package")
def line3() -> Iterator[Fleet]:
    """c1 - g1 - g2 - g3 - c2, up and connected, shared by the tests that put back what they change."""
    with running("line3") as fleet:
        yield fleet


@pytest.fixture
def make_fleet() -> Iterator[Callable[[str], Fleet]]:
    """Makes a fleet of the test's own from a topology (name or path)."""
    with ExitStack() as stack:
        yield lambda topology: stack.enter_context(running(topology))
