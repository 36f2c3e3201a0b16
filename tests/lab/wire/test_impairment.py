# SPDX-License-Identifier: Apache-2.0
"""Values that no wire can have, netem's words, and what one machine can carry."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology import load, model
from veilnet.lab.wire import ceiling as ceilings
from veilnet.lab.wire import netem
from veilnet.lab.wire.build import compiled
from veilnet.lab.wire.ceiling import Ceiling, check
from veilnet.lab.wire.impairment import Burst, Impairment, ImpairmentError, Queue, netem_arguments
from veilnet.lab.wire.link import impairment
from veilnet.lab.wire.settings import settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"delay": -1.0}, "delay: -1.0 is not between 0 and 60 seconds"),
        ({"delay": math.nan}, "delay"),
        ({"jitter": 61.0}, "jitter"),
        ({"loss": 1.01}, "loss: 1.01 is not a probability"),
        ({"duplicate": -0.1}, "duplicate"),
        ({"reorder": 0.1}, "reorder: 0.1 is not possible without a delay to skip"),
        ({"gap": 0}, "gap"),
        ({"rate": 1.0}, "rate"),
        ({"queue": Queue(frames=1)}, "queue.* is not possible without a rate"),
        ({"mtu": 67}, "mtu: 67 is not within 68 to 65535"),
        ({"mtu_visible": True}, "mtu_visible"),
        ({"distribution": "cauchy"}, "distribution: cauchy"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ImpairmentError, match=message):
        Impairment(**values)


@pytest.mark.parametrize("values", [{}, {"bytes": 1, "frames": 1}, {"frames": 0}, {"seconds": -1.0}])
def test_queue_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ImpairmentError, match="queue"):
        Queue(**values)


def test_burst_refused() -> None:
    with pytest.raises(ImpairmentError, match=r"loss\.p"):
        Burst(p=2, r=0.1)
    with pytest.raises(ImpairmentError, match="a chain that moves"):
        Burst(p=0, r=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Impairment(), "netem limit 1000000"),
        (Impairment(delay=0.02, jitter=0.001), "netem limit 1000000 delay 20000.000us 1000.000us"),
        (
            Impairment(delay=0.02, jitter=0.001, distribution="pareto", loss=0.001, duplicate=0.5, reorder=0.25, gap=5),
            "netem limit 1000000 delay 20000.000us 1000.000us distribution pareto loss random 0.1% duplicate 50%"
            " reorder 25% gap 5",
        ),
        (Impairment(loss=Burst(p=0.01, r=0.25, h=0.1, k=0.999)), "netem limit 1000000 loss gemodel 1% 25% 90% 0.1%"),
        (Impairment(blackhole=True, loss=0.5), "netem limit 1000000 loss random 100%"),
        (
            Impairment(rate=12.112e6, delay=0.1, queue=Queue(frames=50)),
            "netem limit 150 delay 100000.000us rate 12112000bit",
        ),
        (Impairment(rate=12.112e6, queue=Queue(seconds=0.02)), "netem limit 20 rate 12112000bit"),
    ],
)
def test_netem_words(given: Impairment, words: str) -> None:
    assert " ".join(netem_arguments(given)) == words


def test_netem_has_no_silent_hole() -> None:
    with pytest.raises(ImpairmentError, match="netem can't drop frames over 1400 bytes"):
        netem_arguments(Impairment(mtu=1400))
    assert netem_arguments(Impairment(mtu=1400, mtu_visible=True))


def test_direction_of_a_topology() -> None:
    burst = model.Burst(p=0.1, r=0.2, bad=0.75, good=0.5)
    found = impairment(model.Direction(delay=0.01, burst=burst, rate=8000, queue_seconds=1.0, mtu=1300), blackhole=True)
    assert found.loss == Burst(p=0.1, r=0.2, h=0.25, k=0.5)
    assert (found.delay, found.queue, found.mtu, found.blackhole) == (0.01, Queue(seconds=1.0), 1300, True)
    assert settings(found)["queue_ns"] == 10**9
    assert settings(impairment(model.Direction(rate=8000)))["queue_frames"] == model.QUEUE_FRAMES


def test_what_it_cannot_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "measured_ceiling", lambda: Ceiling(small=150_000, large=100_000))
    check(Impairment())
    check(Impairment(rate=1e9, delay=0.1))
    with pytest.raises(
        LabError, match=r"825,627 frames of 1514 bytes a second; .* carries 100,000 .* up to 1211 Mbit/s"
    ):
        check(Impairment(rate=10e9))
    with pytest.raises(LabError, match=r"1250 MB on the way; .* holds 268 MB"):
        check(model.Direction(rate=1_000_000_000, delay=10.0))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_ceiling_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = ceilings.measured_ceiling(tmp_path)
    assert measured.small > 1000 and measured.large > 1000
    monkeypatch.setenv("PATH", "/nonexistent")  # a second measurement would need unshare
    assert ceilings.measured_ceiling(tmp_path) == measured


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(LabError, match=r"no C compiler .no-such-compiler.: apt install gcc libc6-dev"):
        compiled("emulator", cache=tmp_path)


def test_failing_compiler_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(LabError, match="does not compile"):
        compiled("emulator", cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lab_by_netem_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    hole, plain = load("mtu-ladder"), load("ring6")
    monkeypatch.setattr(netem, "available", lambda: False)
    with pytest.raises(LabError, match=r"no netem .* without --netem"):
        Lab.check(plain, by_netem=True)
    monkeypatch.setattr(netem, "available", lambda: True)
    with pytest.raises(LabError, match="netem can't drop frames over"):
        Lab.check(hole, by_netem=True)
    Lab.check(plain, by_netem=True)
