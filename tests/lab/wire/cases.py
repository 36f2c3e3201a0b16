# SPDX-License-Identifier: Apache-2.0
"""Impairments that both the emulator and netem carry out, and what is measured of each."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from itertools import pairwise

from tests.lab.wire.stalls import Stalls
from veilnet.lab.wire.impairment import Burst, Impairment

FRAMES = 100_000
FRAME_BYTES = 200
QUANTILES = 100

# Delays of 20 ms and more: a guest's clock under software emulation is off by up to a millisecond now and then.
CASES = {
    "loss": Impairment(delay=0.04, loss=0.02),
    "burst": Impairment(delay=0.02, loss=Burst(p=0.01, r=0.25, h=0.1, k=0.999)),
    "reorder": Impairment(delay=0.04, reorder=0.3, gap=4, loss=0.01),
    "jitter": Impairment(delay=0.05, jitter=0.01, distribution="normal"),
    "duplicate": Impairment(delay=0.03, duplicate=0.05, loss=0.1),
}
# As "burst" to the eye: the same share lost, but each frame for itself. A test of burst lengths has to tell them apart.
# Its delay is 10 % longer, which a comparison of means has to tell.
CONTROL = Impairment(delay=0.022, loss=CASES["burst"].loss.mean if isinstance(CASES["burst"].loss, Burst) else 0.0)


def overtakers(numbers: list[int]) -> int:
    """Frames that arrived before one that was sent earlier."""
    count, least = 0, FRAMES
    for number in reversed(numbers):
        count += number > least
        least = min(least, number)
    return count


def bursts(arrived: set[int], frames: int) -> Counter[int]:
    """How many runs of lost frames have which length; a run that reaches the end counts as it is."""
    edges = [-1, *sorted(arrived), frames]
    return Counter(after - before - 1 for before, after in pairwise(edges) if after - before > 1)


def undisturbed(records: array[int], start: int, stalls: Stalls, delay: float) -> list[float]:
    """Latencies of frames that were not sent and did not arrive during a stall, nor would have, had they taken `delay`
    seconds: whether a frame skips the delay must not decide whether it counts. 0 where delays differ anyway: frames
    that take the mean would count more often than the others."""
    kept = []
    for latency, at in zip(records[1::3], records[2::3], strict=True):
        sent = start + at * 1000 - latency
        if not any(moment in stalls for moment in (sent, sent + latency, sent + round(delay * 1e9))):
            kept.append(latency / 1e9)
    return kept


def summary(case: Impairment, records: bytes, start: int, stalls: Stalls, frames: int = FRAMES) -> dict[str, object]:
    """Figures of a run from probe's records (number, latency in ns, arrival in us since `start`). Those of delay leave
    out what a stall disturbed; `undisturbed` is the share that is left."""
    words = array("I", records)
    numbers = words[0::3].tolist()
    every = [word / 1e9 for word in words[1::3]]
    latencies = undisturbed(words, start, stalls, 0.0 if case.jitter else case.delay)
    arrived = set(numbers)
    cut = statistics.quantiles(latencies, n=QUANTILES)
    return {
        "frames": frames,
        "arrivals": len(numbers),
        "lost": frames - len(arrived),
        "overtakers": overtakers(numbers),
        "undisturbed": round(len(latencies) / len(every), 4),
        "mean_delay_of_all": round(statistics.fmean(every), 7),
        "mean_delay": round(statistics.fmean(latencies), 7),
        "deviation": round(statistics.pstdev(latencies), 7),
        "delay_quantiles": [round(value, 6) for value in cut],
        "bursts": {str(length): count for length, count in sorted(bursts(arrived, frames).items())},
    }
