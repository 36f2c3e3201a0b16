# SPDX-License-Identifier: Apache-2.0
"""An Impairment in the emulator's integers: nanoseconds, bytes per second, thresholds of 32-bit draws (decide.h)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

from veilnet.lab.wire.impairment import NETEM_FRAMES, Burst, Distribution, Impairment, Queue

NANO = 1_000_000_000
TABLE_SIZE = 4096
TABLE_SCALE = 1 << 13  # TABLE_SHIFT of decide.h; netem's NETEM_DIST_SCALE
_LIMIT = (1 << 15) - 1


def _normal(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _pareto(share: float) -> float:
    """As tc's `pareto` table: shape 3, moved to mean 0; the factor is tc's (not a variance of 1)."""
    return (math.pow(1 - share, -1 / 3) - 1.5) * 4 / 3


_QUANTILES: dict[Distribution, Callable[[float], float]] = {"normal": _normal, "pareto": _pareto}
TABLES: tuple[Distribution, ...] = tuple(_QUANTILES)


@cache
def table(distribution: Distribution) -> tuple[int, ...]:
    """TABLE_SIZE quantiles, TABLE_SCALE for one jitter, cut to 16 bits as netem's are."""
    quantile = _QUANTILES[distribution]
    values = (round(quantile((n + 0.5) / TABLE_SIZE) * TABLE_SCALE) for n in range(TABLE_SIZE))
    return tuple(max(-_LIMIT, min(_LIMIT, value)) for value in values)


def threshold(probability: float) -> int:
    """A draw below it has this probability; 2^32 is always."""
    return round(probability * (1 << 32))


def _loss(loss: float | Burst) -> dict[str, int]:
    if not isinstance(loss, Burst):
        return {"loss_good": threshold(loss)}
    return {
        "to_bad": threshold(loss.p),
        "to_good": threshold(loss.r),
        "loss_bad": threshold(1 - loss.h),
        "loss_good": threshold(1 - loss.k),
    }


def _queue(queue: Queue, rate: int) -> dict[str, int]:
    if queue.frames is not None:
        return {"queue_frames": queue.frames}
    seconds = queue.bytes / rate if queue.bytes is not None else queue.seconds or 0.0
    return {"queue_ns": max(1, round(seconds * NANO))}


def settings(impairment: Impairment) -> dict[str, int]:
    """Fields of `struct impairment`; `table` counts from 1, 0 is uniform. What is left out is 0."""
    found = {"delay_ns": round(impairment.delay * NANO), "jitter_ns": round(impairment.jitter * NANO)}
    if impairment.distribution in TABLES:
        found["table"] = TABLES.index(impairment.distribution) + 1
    found |= _loss(impairment.loss)
    found["duplicate"] = threshold(impairment.duplicate)
    if impairment.reorder:
        found |= {"reorder": threshold(impairment.reorder), "gap": impairment.gap}
    if impairment.rate is not None:
        found["rate"] = max(1, round(impairment.rate / 8))
        found |= _queue(impairment.queue or Queue(frames=NETEM_FRAMES), found["rate"])
    found |= {"mtu": impairment.mtu or 0, "blackhole": int(impairment.blackhole)}
    return {key: value for key, value in found.items() if value}


def direction_seed(seed: int, wire: str, direction: int) -> int:
    """64-bit seed of one direction of a wire: wires of a lab are independent, and another wire changes none of them."""
    text = f"{seed}/{wire}/{direction}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
