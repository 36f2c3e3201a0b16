# SPDX-License-Identifier: Apache-2.0
"""What a wire does to frames in one direction, and the same in the words of `tc netem` (tc-netem(8))."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from veilnet.lab.journal import LabError

Distribution = Literal["uniform", "normal", "pareto"]
MIN_MTU = 68  # RFC 791: what every IPv4 link carries
MAX_MTU = 65535
MAX_DELAY = 60.0  # seconds
MAX_QUEUE_FRAMES = 1_000_000
NETEM_FRAMES = 1000  # netem's own default limit
ETHERNET_HEADER = 14


class ImpairmentError(LabError):
    """A value that no wire can have."""


def _require(ok: bool, what: str, value: object, rule: str) -> None:
    if not ok:
        msg = f"{what}: {value} is not {rule}"
        raise ImpairmentError(msg)


def _probability(what: str, value: float) -> None:
    _require(0.0 <= value <= 1.0, what, value, "a probability (0 to 1)")


@dataclass(frozen=True, slots=True)
class Burst:
    """Gilbert-Elliott loss. `p`: chance to turn bad, `r`: to turn good again, a frame each; `h` and `k`: chance that a
    frame gets through in the bad and in the good state. Mean burst 1/r frames, when h is 0 and k is 1."""

    p: float
    r: float
    h: float = 0.0
    k: float = 1.0

    def __post_init__(self) -> None:
        for name in ("p", "r", "h", "k"):
            _probability(f"loss.{name}", getattr(self, name))
        _require(self.p + self.r > 0, "loss", self, "a chain that moves (p + r above 0)")

    @property
    def mean(self) -> float:
        """Share of frames lost in the long run."""
        bad = self.p / (self.p + self.r)
        return bad * (1 - self.h) + (1 - bad) * (1 - self.k)


@dataclass(frozen=True, slots=True)
class Queue:
    """Room before the bottleneck, in one unit: bytes, frames, or the seconds that the rate needs to send it."""

    bytes: int | None = None
    frames: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.bytes, self.frames, self.seconds) if value is not None]
        _require(len(given) == 1 and given[0] > 0, "queue", self, "one positive size in bytes, frames or seconds")
        _require((self.frames or 0) <= MAX_QUEUE_FRAMES, "queue.frames", self.frames, f"at most {MAX_QUEUE_FRAMES}")


@dataclass(frozen=True, slots=True)
class Impairment:
    """One direction of a wire. Seconds, probabilities (0 to 1), bits per second; sizes are those of the whole frame.

    - `delay` plus or minus `jitter`. `uniform`: within +- jitter; `normal`: jitter is the standard deviation;
      `pareto`: tc's table, a long tail late. Without a rate jitter reorders, with one it does not.
    - `loss`: independent, or `Burst`. `duplicate`: sent twice.
    - `reorder`: of each `gap`-th frame and those behind it, until one went ahead; that one is sent without delay.
    - `rate` and the `queue` before it (default: 1000 frames, as netem). The rate lies behind the delay.
    - `mtu`: longer packets (bytes behind the Ethernet header) vanish: a silent hole. With `mtu_visible` the backend
      sets the interfaces' MTU too, so that the sender knows.
    - `blackhole`: nothing passes.
    """

    delay: float = 0.0
    jitter: float = 0.0
    distribution: Distribution = "uniform"
    loss: float | Burst = 0.0
    reorder: float = 0.0
    gap: int = 1
    duplicate: float = 0.0
    rate: float | None = None
    queue: Queue | None = None
    mtu: int | None = None
    mtu_visible: bool = False
    blackhole: bool = False

    def __post_init__(self) -> None:
        for name in ("delay", "jitter"):
            value = getattr(self, name)
            _require(0.0 <= value <= MAX_DELAY, name, value, f"between 0 and {MAX_DELAY:g} seconds")
        _require(self.distribution in get_args(Distribution), "distribution", self.distribution, "a known distribution")
        if not isinstance(self.loss, Burst):
            _probability("loss", self.loss)
        _probability("reorder", self.reorder)
        _probability("duplicate", self.duplicate)
        _require(self.gap >= 1, "gap", self.gap, "at least 1")
        _require(not self.reorder or self.delay > 0, "reorder", self.reorder, "possible without a delay to skip")
        _require(self.rate is None or 8.0 <= self.rate < 1e12, "rate", self.rate, "between 8 bit/s and 1 Tbit/s")
        _require(self.queue is None or self.rate is not None, "queue", self.queue, "possible without a rate")
        _require(self.mtu is None or MIN_MTU <= self.mtu <= MAX_MTU, "mtu", self.mtu, f"within {MIN_MTU} to {MAX_MTU}")
        _require(self.mtu is not None or not self.mtu_visible, "mtu_visible", True, "possible without an mtu")

    @property
    def plain(self) -> bool:
        """Nothing that needs an emulator: a bare cable does."""
        return self == Impairment(mtu=self.mtu, mtu_visible=True) if self.mtu_visible else self == Impairment()


def _seconds(value: float) -> str:
    return f"{value * 1e6:.3f}us"


def _percent(probability: float) -> str:
    return f"{probability * 100:.10g}%"


def _netem_limit(impairment: Impairment, frame: int) -> int:
    """netem has one limit for frames that wait and frames that travel; ours is for those that wait."""
    if impairment.rate is None:
        return MAX_QUEUE_FRAMES
    per_second = impairment.rate / 8 / frame
    queue = impairment.queue or Queue(frames=NETEM_FRAMES)
    if queue.frames is not None:
        waiting = float(queue.frames)
    elif queue.bytes is not None:
        waiting = queue.bytes / frame
    else:
        waiting = (queue.seconds or 0.0) * per_second
    return max(1, math.ceil(waiting + (impairment.delay + impairment.jitter) * per_second))


def _netem_delay(impairment: Impairment) -> list[str]:
    if not impairment.delay and not impairment.jitter:
        return []
    words = ["delay", _seconds(impairment.delay)]
    if impairment.jitter:
        words.append(_seconds(impairment.jitter))
        if impairment.distribution != "uniform":
            words += ["distribution", impairment.distribution]
    return words


def _netem_loss(loss: float | Burst) -> list[str]:
    if isinstance(loss, Burst):
        return ["loss", "gemodel", *(_percent(part) for part in (loss.p, loss.r, 1 - loss.h, 1 - loss.k))]
    return ["loss", "random", _percent(loss)] if loss else []


def netem_arguments(impairment: Impairment, frame: int = 1500 + ETHERNET_HEADER, seed: int | None = None) -> list[str]:
    """Words behind `tc qdisc replace dev DEVICE root`. `frame`: bytes of a typical frame, for netem's limit in frames.

    `seed`: kernel 6.6 and iproute2 6.6 on. Raises ImpairmentError for a silent MTU hole, which netem has not: the
    backend filters by length there.
    """
    if impairment.mtu is not None and not impairment.mtu_visible:
        msg = f"mtu: netem can't drop frames over {impairment.mtu} bytes; filter by length beside it"
        raise ImpairmentError(msg)
    words = ["netem", "limit", str(_netem_limit(impairment, frame)), *_netem_delay(impairment)]
    words += ["loss", "random", "100%"] if impairment.blackhole else _netem_loss(impairment.loss)
    if impairment.duplicate:
        words += ["duplicate", _percent(impairment.duplicate)]
    if impairment.reorder:
        words += ["reorder", _percent(impairment.reorder), "gap", str(impairment.gap)]
    if impairment.rate is not None:
        words += ["rate", f"{round(impairment.rate)}bit"]
    if seed is not None:
        words += ["seed", str(seed)]
    return words
