# SPDX-License-Identifier: Apache-2.0
"""One set of maps and one load of each program for all packet tests; every test starts with empty maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.bpf.harness import World
from veilnet.loader import pins, program

Loader = Callable[[str], int]


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = pins.instance_dir(f"bpftest{os.getpid()}")
    pins.create_maps(directory)
    made = World(directory)
    yield made
    made.close()
    pins.remove_dir(directory)


@pytest.fixture(scope="session")
def load_program(shared_world: World) -> Iterator[Loader]:
    """fd of the program in a source file of `bpf/` (or at a path), loaded once over the shared maps."""
    loaded: dict[str, program.Program] = {}

    def load(source: str) -> int:
        if source not in loaded:
            loaded[source] = program.load(source, shared_world.pins)
        return loaded[source].fd

    yield load
    for one in loaded.values():
        one.close()


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.reset()
    return shared_world


@pytest.fixture
def rx(world: World, load_program: Loader) -> int:
    return load_program("veil_rx.c")


@pytest.fixture
def ctl(world: World, load_program: Loader) -> int:
    return load_program("veil_ctl.c")
