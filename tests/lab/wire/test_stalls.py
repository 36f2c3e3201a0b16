# SPDX-License-Identifier: Apache-2.0
"""Times without a CPU: found where they are, and nothing else left out of a figure."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from array import array

import pytest

from tests.lab.wire.cases import summary, undisturbed
from tests.lab.wire.stalls import AFTER, Stalls, of_probe, watching
from tests.patience import wait_for
from veilnet.lab.wire.impairment import Impairment

_BUSY = "import os\nos.sched_setaffinity(0, {%d})\nprint('on', flush=True)\nwhile True: pass"


def test_times_overlap_and_end_a_little_later() -> None:
    stalls = Stalls([(50_000_000, 60_000_000), (10, 20), (15, 30)])
    inside = [10, 30, 30 + AFTER, 50_000_000, 60_000_000 + AFTER]
    outside = [9, 31 + AFTER, 49_999_999, 60_000_001 + AFTER]
    assert all(moment in stalls for moment in inside) and not any(moment in stalls for moment in outside)
    assert 0 not in Stalls([])


def test_two_that_share_a_cpu_wait_for_it() -> None:
    cpu = min(os.sched_getaffinity(0))
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY % cpu], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout and process.stdout.readline() == b"on\n"
        with watching(processes[0].pid) as stalls:
            wait_for(lambda: sum(end - begin for begin, end in stalls) > 20_000_000)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_probe_says_when_it_stood_still() -> None:
    assert of_probe(b"start 5\nstall 7 9\nstall 11 12\n") == (5, [(7, 9), (11, 12)])
    with pytest.raises(AssertionError, match="frame 3"):
        of_probe(b"start 5\nprobe: frame 3: No buffer space available\n")


def test_a_figure_leaves_out_the_delays_of_stalls_and_no_loss() -> None:
    late = {5, 6}
    records = array(
        "I", [word for n in range(20) if n != 9 for word in (n, 9_000_000 if n in late else 1_000_000, n * 5000)]
    )
    stalls = Stalls([(1000 + 24_000_000, 1000 + 30_000_000)])
    found = summary(Impairment(delay=0.001), records.tobytes(), 1000, stalls, 20)
    assert (found["mean_delay"], found["lost"], found["arrivals"]) == (0.001, 1, 19)
    assert found["undisturbed"] == round(17 / 19, 4)
    assert found["mean_delay_of_all"] == pytest.approx(0.001 * (17 + 18) / 19, abs=1e-6)


def test_frames_that_skip_the_delay_weigh_no_more_than_without_stalls() -> None:
    """A sender that stands still from time to time, a wire of 40 ms that every fourth frame skips."""
    stalls = [(begin, begin + 30_000_000) for begin in range(0, 10_000_000_000, 200_000_000)]
    words = []
    for number in range(20_000):
        sent, due = number * 500_000, 0 if number % 4 == 0 else 40_000_000
        if sent in Stalls(stalls):
            continue  # it stands still
        arrival = sent + due
        held = next((end for begin, end in stalls if begin <= arrival < end), arrival)
        words += [number, held - sent, held // 1000]
    kept = undisturbed(array("I", words), 0, Stalls(stalls), 0.04)
    assert 0.4 < len(kept) / (len(words) / 3) < 0.9
    assert statistics.fmean(kept) == pytest.approx(0.03, rel=0.01)
    assert statistics.fmean(words[1::3]) / 1e9 > 0.031


def test_leaving_out_makes_no_spread_narrower() -> None:
    """Delays between 20 and 80 ms, stalls that leave a quarter of the time."""
    dice = random.Random(1)
    stalls, moment = [], 0
    while moment < 10_000_000_000:
        moment += round(dice.expovariate(1 / 15e6))
        stalls.append((moment, moment := moment + round(dice.expovariate(1 / 12e6))))
    words = []
    for number in range(50_000):
        due = round(dice.uniform(0.02, 0.08) * 1e9)
        words += [number, due, (number * 200_000 + due) // 1000]
    kept = undisturbed(array("I", words), 0, Stalls(stalls), 0.0)
    assert 0.05 < len(kept) / 50_000 < 0.5
    assert statistics.pstdev(kept) == pytest.approx(0.06 / 12**0.5, rel=0.02)
    assert statistics.fmean(kept) == pytest.approx(0.05, rel=0.02)
