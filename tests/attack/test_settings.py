# SPDX-License-Identifier: Apache-2.0
"""Settings that a realm's administrator gets wrong must not stop its nodes."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from tests.keyd.net import pair
from veilnet.keyd.core import Settings

HINTS = get_type_hints(Settings)
SECONDS = [item.name for item in fields(Settings) if HINTS[item.name] is float]


@pytest.mark.parametrize("name", SECONDS)
def test_zero_seconds_are_not_taken(name: str) -> None:
    """A tick every 0 s would keep the engine in one call for ever."""
    assert Settings().under({name: 0}) == Settings().under({name: -1}) == Settings()
    assert getattr(Settings().under({name: 7}), name) == 7


def test_engine_goes_on_with_a_tick_of_zero() -> None:
    net = pair(realm_settings={"tick": 0, "reconcile": 0})
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
