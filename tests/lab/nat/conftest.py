# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import fresh_name
from tests.lab.nat.rig import Pair, Rig, build_pair


@pytest.fixture(scope="package")
def _pair() -> Iterator[Pair]:
    made = build_pair(fresh_name())
    yield made
    made.rig.close()


@pytest.fixture
def pair(_pair: Pair) -> Iterator[Pair]:
    """One NAT with two hosts inside and a server outside, for all tests; each sets the kind it wants."""
    yield _pair
    _pair.rig.close_sockets()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(fresh_name())
    yield made
    made.close()
