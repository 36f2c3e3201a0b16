# SPDX-License-Identifier: Apache-2.0
"""Labs that are this run's own, removed whatever happens."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from veilnet.lab.fleet import Fleet
from veilnet.lab.lab import Lab

_COUNT = itertools.count()


def fresh_name() -> str:
    """A lab name that no other run uses; `run` removes all labs of its prefix whatever happens to pytest."""
    return f"{os.environ.get('VEILNET_LAB_PREFIX') or f'x{os.getpid()}'}t{next(_COUNT)}"


@pytest.fixture
def lab_name() -> str:
    return fresh_name()


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
    made = []

    def make(topology: str) -> Fleet:
        context = running(topology)
        made.append(context)
        return context.__enter__()

    yield make
    for context in reversed(made):
        context.__exit__(None, None, None)
