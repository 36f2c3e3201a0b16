# SPDX-License-Identifier: Apache-2.0
"""Reference model of the emulator's decisions (decide.h): pure, frame by frame, from the seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from veilnet.lab.wire.impairment import Impairment
from veilnet.lab.wire.settings import TABLE_SCALE, TABLES, settings, table

_MASK = (1 << 64) - 1
_DRAWS = 10

Fate = int | Literal["first"]  # delay of a copy in ns; "first": reordered, sent without delay


def _rotl(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


class Xoshiro256:
    """xoshiro256** 1.0, seeded by splitmix64 (https://prng.di.unimi.it/)."""

    def __init__(self, seed: int) -> None:
        self.state = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & _MASK
            word = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
            word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
            self.state.append(word ^ word >> 31)

    def next(self) -> int:
        s0, s1, s2, s3 = self.state
        result = _rotl(s1 * 5 & _MASK, 7) * 9 & _MASK
        s2, s3 = s2 ^ s0, s3 ^ s1
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17 & _MASK), _rotl(s3, 45)]
        return result


@dataclass
class Decider:
    """One direction. `impairment` may change between frames, as on a live wire."""

    seed: int
    impairment: Impairment
    bad: bool = False
    since_reorder: int = 0
    _rng: Xoshiro256 = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Xoshiro256(self.seed)
        self.change(self.impairment)

    def change(self, impairment: Impairment) -> None:
        self.impairment = impairment
        self._is = settings(impairment)
        self._table = table(TABLES[self._is["table"] - 1]) if "table" in self._is else None
        if not self._setting("to_bad"):
            self.bad = False

    def decide(self, length: int) -> list[Fate]:
        """Copies of the next frame, `length` bytes behind its Ethernet header, in the order of sending."""
        draw = [half for _ in range(_DRAWS // 2) for half in divmod(self._rng.next(), 1 << 32)]
        twice = draw[0] < self._setting("duplicate")
        lost = self._is_lost(draw[1], draw[2])
        too_long = bool(self._setting("mtu")) and length > self._setting("mtu")
        if self._setting("blackhole") or too_long or (lost and not twice):
            return []
        copies = []
        if twice and not lost and not self._is_lost(draw[5], draw[6]):
            copies.append(self._travel(draw[7], draw[8]))
        copies.append(self._travel(draw[3], draw[4]))
        return copies

    def _setting(self, name: str) -> int:
        return self._is.get(name, 0)

    def _is_lost(self, move: int, loss: int) -> bool:
        lost = loss < self._setting("loss_bad" if self.bad else "loss_good")
        if move < self._setting("to_good" if self.bad else "to_bad"):
            self.bad = not self.bad
        return lost

    def _travel(self, reorder: int, jitter: int) -> Fate:
        gap = self._setting("gap")
        if gap and self.since_reorder >= gap - 1 and reorder < self._setting("reorder"):
            self.since_reorder = 0
            return "first"
        self.since_reorder += 1
        return self._jittered(jitter)

    def _jittered(self, draw: int) -> int:
        delay, jitter = self._setting("delay_ns"), self._setting("jitter_ns")
        if self._table is not None:
            return delay + jitter * self._table[draw >> 20] // TABLE_SCALE
        return delay - jitter + (draw * 2 * jitter >> 32)


def decisions(seed: int, impairment: Impairment, lengths: Iterable[int]) -> Iterator[list[Fate]]:
    """Fate of each frame of a direction, in order."""
    decider = Decider(seed, impairment)
    return (decider.decide(length) for length in lengths)
