# SPDX-License-Identifier: Apache-2.0
"""The emulator against netem as measured in a guest (netem.json): the same parameters, 10^5 frames each.

All cases run at once on wires of one emulator. Losses lie in the 99 % interval around what was asked for, and differ
from netem's by less than the two-proportion z test allows at 1 % for all five cases together. Burst lengths: Pearson's
chi-square test of homogeneity at 1 % for the four cases together; a control has to fail it by far.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.wire.cases import CASES, CONTROL, FRAME_BYTES, FRAMES, summary
from tests.lab.wire.rig import running
from tests.lab.wire.stalls import Stalls, of_probe, watching
from tests.lab.wire.statistic import Z99, Z99_OF_FIVE, chain_inflation, homogeneity, shares_differ
from veilnet.lab.wire.impairment import ETHERNET_HEADER, Burst, Impairment
from veilnet.lab.wire.model import decisions
from veilnet.lab.wire.settings import direction_seed

pytestmark = [  # 10^5 frames a case take minutes, and their times need a machine that does little else
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.soak,
]

NETEM: dict[str, Any] = json.loads(Path(__file__).with_name("netem.json").read_text())
INTERVAL_NS = 200_000
SEED = 5
SHOWN = ("undisturbed", "mean_delay", "mean_delay_of_all", "lost", "overtakers")
SIGNIFICANCE_OF_FOUR = 0.01 / 4  # each of four tests, so that all hold in 99 % (Bonferroni)
LEAST_UNDISTURBED = 0.02
"""2,000 frames: the standard error of each mean is at most 1 % then."""
Figures = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Figures]:
    """Figures of every case and of the control, as netem.json has them."""
    cases = {**CASES, "control": CONTROL}
    with running(tmp_path_factory.mktemp("wires"), len(cases)) as rig:
        for n, (name, impairment) in enumerate(cases.items()):
            rig.add(n, SEED, name)
            rig.control.change(name, 0, impairment)
        with watching(rig.pid) as stalls:
            senders = [rig.sender(n, FRAMES, INTERVAL_NS, FRAME_BYTES) for n in range(len(cases))]
            outputs = [sender.communicate() for sender in senders]
        for name in cases:
            counters = rig.control.counters(name, 0)
            assert (counters.frames_in, counters.overrun) == (FRAMES, 0)
        figures = {
            name: summary(cases[name], records, of_probe(said)[0], Stalls(stalls))
            for name, (records, said) in zip(cases, outputs, strict=True)
        }
        for name, row in figures.items():
            print(f"\n{name}: " + ", ".join(f"{key} {row[key]}" for key in SHOWN), end="")
        yield figures


def inflation(impairment: Impairment) -> float:
    loss = impairment.loss
    return chain_inflation(loss.p, loss.r) if isinstance(loss, Burst) else 1.0


def share_lost(impairment: Impairment) -> float:
    """Of the frames sent, those of which no copy arrives."""
    loss = impairment.loss.mean if isinstance(impairment.loss, Burst) else impairment.loss
    return loss * (1 - impairment.duplicate)  # a duplicated frame loses one copy and keeps the other


def histogram(figures: dict[str, Any]) -> dict[int, int]:
    return {int(length): count for length, count in figures["bursts"].items()}


@pytest.mark.parametrize("name", CASES)
def test_mean_delay_within_five_percent(emulator: Figures, name: str) -> None:
    """Of what arrived while the emulator, and the guest, had a CPU."""
    for figures in (emulator[name], NETEM["cases"][name]):
        assert figures["undisturbed"] >= LEAST_UNDISTURBED, "the machine is too busy to measure delay on it"
    assert emulator[name]["mean_delay"] == pytest.approx(NETEM["cases"][name]["mean_delay"], rel=0.05)


def test_mean_delay_of_the_control_differs(emulator: Figures) -> None:
    netems = NETEM["cases"]["burst"]["mean_delay"]
    assert emulator["control"]["mean_delay"] != pytest.approx(netems, rel=0.05)


@pytest.mark.parametrize("name", CASES)
def test_loss_within_its_interval(emulator: Figures, name: str) -> None:
    ours, netems, wider = emulator[name]["lost"], NETEM["cases"][name]["lost"], inflation(CASES[name])
    asked = share_lost(CASES[name])
    room = Z99 * math.sqrt(asked * (1 - asked) / FRAMES * wider)
    for lost in (ours, netems):
        assert abs(lost / FRAMES - asked) <= room
    assert shares_differ(ours, netems, FRAMES, wider) < Z99_OF_FIVE
    assert shares_differ(ours * 3 // 2 + 100, netems, FRAMES, wider) > Z99_OF_FIVE  # the test can tell


@pytest.mark.parametrize("name", ["loss", "burst", "reorder", "duplicate"])
def test_burst_lengths(emulator: Figures, name: str) -> None:
    assert homogeneity(histogram(emulator[name]), histogram(NETEM["cases"][name])) > SIGNIFICANCE_OF_FOUR


def test_burst_lengths_of_the_control_differ(emulator: Figures) -> None:
    """As much lost, frame by frame: the share says nothing, the lengths do."""
    netem = NETEM["cases"]["burst"]
    assert shares_differ(emulator["control"]["lost"], netem["lost"], FRAMES, inflation(CASES["burst"])) < Z99
    assert homogeneity(histogram(emulator["control"]), histogram(netem)) < 1e-6


def test_reorder_rate(emulator: Figures) -> None:
    ours, netems = emulator["reorder"]["overtakers"], NETEM["cases"]["reorder"]["overtakers"]
    assert netems > 10_000
    assert shares_differ(ours, netems, FRAMES) < Z99
    other_gap = Impairment(delay=0.04, reorder=0.3, gap=5, loss=0.01)
    fates = decisions(1, other_gap, [FRAME_BYTES] * FRAMES)
    assert shares_differ(sum(fate == ["first"] for fate in fates), netems, FRAMES) > Z99


def test_duplicates(emulator: Figures) -> None:
    def duplicates(figures: dict[str, Any]) -> int:
        return int(figures["arrivals"] - (FRAMES - figures["lost"]))

    ours, netems = duplicates(emulator["duplicate"]), duplicates(NETEM["cases"]["duplicate"])
    assert netems > 3000
    assert shares_differ(ours, netems, FRAMES) < Z99


def test_spread_of_jitter(emulator: Figures) -> None:
    """Deciles within a millisecond, a tenth of the jitter: the guest's clock gives no finer comparison."""
    ours, netems = emulator["jitter"]["delay_quantiles"], NETEM["cases"]["jitter"]["delay_quantiles"]
    for n in range(9, 99, 10):
        assert ours[n] == pytest.approx(netems[n], abs=0.0015)
    assert emulator["jitter"]["deviation"] == pytest.approx(CASES["jitter"].jitter, rel=0.03)


@pytest.mark.parametrize("name", CASES)
def test_same_seed_same_drops(emulator: Figures, name: str) -> None:
    fates = decisions(direction_seed(SEED, name, 0), CASES[name], [FRAME_BYTES - ETHERNET_HEADER] * FRAMES)
    assert emulator[name]["lost"] == sum(not fate for fate in fates)
