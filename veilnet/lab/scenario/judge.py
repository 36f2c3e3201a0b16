# SPDX-License-Identifier: Apache-2.0
"""Expectations against traces. A known failure must fail, or the scenario fails: then it is time to expect more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from veilnet.lab.scenario.model import Expectation
from veilnet.lab.scenario.traces import Trace

Outcome = Literal["holds", "fails", "fails as expected", "holds unexpectedly"]
GOOD: Final = ("holds", "fails as expected")


@dataclass(frozen=True, slots=True)
class Verdict:
    expectation: Expectation
    outcome: Outcome
    measured: str

    @property
    def good(self) -> bool:
        return self.outcome in GOOD


def judge(expectations: Sequence[Expectation], traces: Mapping[str, Trace]) -> list[Verdict]:
    return [_judge(expectation, traces[expectation.flow]) for expectation in expectations]


def _judge(expectation: Expectation, trace: Trace) -> Verdict:
    holds, measured = _measure(expectation, trace)
    if expectation.fails:
        return Verdict(expectation, "holds unexpectedly" if holds else "fails as expected", measured)
    return Verdict(expectation, "holds" if holds else "fails", measured)


def _measure(expectation: Expectation, trace: Trace) -> tuple[bool, str]:
    """A comparison with NaN is false: without packets nothing holds, not even silence."""
    since, until = expectation.since, expectation.until
    sent = len(trace.between(since, until))
    if not sent:
        return False, "nothing was sent"
    lost = round(trace.loss(since, until) * sent)
    if expectation.kind == "loss":
        return trace.loss(since, until) <= expectation.limit, f"{lost} of {sent} lost"
    if expectation.kind == "silent":
        return lost == sent, f"{sent - lost} of {sent} arrived"
    if expectation.kind == "recovers":
        outage = trace.outage(since, until)
        measured = "not within the time that was watched" if math.isinf(outage) else f"longest outage {_time(outage)}"
        return outage <= expectation.limit, f"{measured}, {lost} of {sent} lost"
    delay = trace.delay(since, until, 0.99)
    return delay <= expectation.limit, f"99th percentile {_time(delay)}"


def describe(expectation: Expectation) -> str:
    """One line for people."""
    window = f"from {expectation.since:g} s to {expectation.until:g} s"
    what = {
        "loss": f"at most {expectation.limit:.4%} lost" if expectation.limit else "no loss",
        "recovers": f"no outage longer than {_time(expectation.limit)}",
        "delay": f"99th percentile of the one-way delay at most {_time(expectation.limit)}",
        "silent": "nothing arrives",
    }[expectation.kind]
    return f"{expectation.flow}: {what} {window}"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown: nothing arrived"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
