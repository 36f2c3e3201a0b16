# SPDX-License-Identifier: Apache-2.0
"""The emulator decides as the model does, frame by frame."""

from __future__ import annotations

import math
import random
import subprocess
from itertools import pairwise

import pytest

from tests.lab.wire.statistic import Z99, chain_inflation
from veilnet.lab.wire.build import compiled
from veilnet.lab.wire.impairment import Burst, Impairment
from veilnet.lab.wire.model import Decider, Xoshiro256, decisions
from veilnet.lab.wire.settings import TABLES, settings, table

# https://github.com/rust-random/rngs, rand_xoshiro: from the authors' C program, state 1, 2, 3, 4
XOSHIRO_1234 = (11520, 0, 1509978240, 1215971899390074240, 1216172134540287360, 607988272756665600)

EVERYTHING = Impairment(
    delay=0.02,
    jitter=0.005,
    distribution="pareto",
    loss=Burst(p=0.05, r=0.3, h=0.1, k=0.99),
    reorder=0.2,
    gap=3,
    duplicate=0.1,
    mtu=1400,
)
CASES = [
    Impairment(),
    Impairment(delay=0.02, jitter=0.03),
    Impairment(delay=0.02, jitter=0.01, distribution="normal", loss=0.1),
    Impairment(loss=1.0),
    Impairment(loss=1.0, duplicate=1.0),
    Impairment(delay=0.01, reorder=1.0, gap=1),
    Impairment(blackhole=True),
    EVERYTHING,
]


def emulated(seed: int, impairment: Impairment, lengths: list[int]) -> list[list[int | str]]:
    """What the C program decides, without devices."""
    found = settings(impairment)
    lines = []
    if "table" in found:
        values = table(TABLES[found["table"] - 1])
        lines.append(f"table {found['table']} {' '.join(map(str, values))}")
    lines += [f"{seed} {' '.join(f'{key}={value}' for key, value in found.items())}", " ".join(map(str, lengths))]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run([compiled("emulator"), "--decide"], input=text, capture_output=True, text=True, check=True)
    words = [line.split() for line in done.stdout.splitlines()]
    return [[] if line == ["lost"] else [w if w == "first" else int(w) for w in line] for line in words]


def test_xoshiro_vector() -> None:
    rng = Xoshiro256(0)
    rng.state = [1, 2, 3, 4]
    assert tuple(rng.next() for _ in XOSHIRO_1234) == XOSHIRO_1234


@pytest.mark.parametrize("impairment", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_frame_by_frame(seed: int, impairment: Impairment) -> None:
    lengths = random.Random(7).choices(range(46, 1501), k=5000)
    assert emulated(seed, impairment, lengths) == list(decisions(seed, impairment, lengths))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("impairment", [Impairment(loss=0.02), Impairment(loss=Burst(p=0.01, r=0.25, h=0.1, k=0.999))])
def test_no_bias_over_a_million_frames(seed: int, impairment: Impairment) -> None:
    share, wider = 0.02, 1.0
    if isinstance(impairment.loss, Burst):
        share, wider = impairment.loss.mean, chain_inflation(0.01, 0.25)
    text = f"{seed} {' '.join(f'{key}={value}' for key, value in settings(impairment).items())}\n{'9 ' * 1_000_000}\n"
    done = subprocess.run([compiled("emulator"), "--decide"], input=text, capture_output=True, text=True, check=True)
    room = Z99 * math.sqrt(share * (1 - share) / 1e6 * wider)
    assert done.stdout.count("lost") / 1e6 == pytest.approx(share, abs=room)


def test_other_seed_other_fate() -> None:
    lengths = [1000] * 1000
    assert emulated(1, EVERYTHING, lengths) != emulated(2, EVERYTHING, lengths)


def test_fate_does_not_depend_on_other_settings() -> None:
    """Each frame takes the same draws: a delay changed on the way changes no loss."""
    steady, changed = Decider(5, Impairment(loss=0.3)), Decider(5, Impairment(loss=0.3))
    lost = []
    for n in range(2000):
        if n == 700:
            changed.change(Impairment(loss=0.3, delay=0.01, jitter=0.01, reorder=0.5))
        lost.append((not steady.decide(100), not changed.decide(100)))
    assert all(one == other for one, other in lost)
    assert 500 < sum(one for one, _ in lost) < 700


def test_gap_counts_from_the_last_reordered_frame() -> None:
    fates = list(decisions(1, Impairment(delay=0.01, reorder=1.0, gap=4), [100] * 400))
    first = [n for n, fate in enumerate(fates) if fate == ["first"]]
    assert first[0] == 3
    assert {b - a for a, b in pairwise(first)} == {4}
