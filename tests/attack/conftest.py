# SPDX-License-Identifier: Apache-2.0
"""The data plane's programs and maps as the packet tests have them, and a flood into them."""

from __future__ import annotations

import pytest

from tests.attack.flood import Flood
from tests.bpf.conftest import load_program, rx, shared_world, world
from tests.bpf.harness import World

__all__ = ["load_program", "make_flood", "rx", "shared_world", "world"]


@pytest.fixture(name="flood")
def make_flood(world: World, rx: int) -> Flood:
    return Flood(world, rx)
