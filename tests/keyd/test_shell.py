# SPDX-License-Identifier: Apache-2.0
"""The shell around the engine: one failure of ours is no reason to serve nobody any more."""

from __future__ import annotations

import asyncio

import pytest

from tests.keyd.net import pair
from veilnet import contract as c
from veilnet.keyd.shell import Shell


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Over an engine that fails as it never should."""
    made = Shell.__new__(Shell)
    made.engine, made._ready, made._timer = pair().nodes["a"].engine, True, None

    def fail(*_: object) -> None:
        raise KeyError("a fault")

    for name in ("on_knock", "on_control", "on_no_stream", "poll"):
        monkeypatch.setattr(made.engine, name, fail)
    return made


@pytest.mark.parametrize("kind", [c.EVENT_KNOCK, c.EVENT_CONTROL, c.EVENT_NO_STREAM])
def test_an_event_that_fails_is_counted_and_the_next_has_its_turn(shell: Shell, kind: int) -> None:
    event = c.Event(type=kind)
    event.addrs.family = 4
    for _ in range(2):
        shell._on_event(event, b"")
    assert shell.engine.core.counters["event_failed"] == 2


async def test_time_goes_on_after_a_timer_that_failed(shell: Shell) -> None:
    shell._poll()
    assert shell.engine.core.counters["poll_failed"] == 1
    timer: asyncio.TimerHandle | None = shell._timer
    assert timer is not None
    timer.cancel()
