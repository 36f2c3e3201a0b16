# SPDX-License-Identifier: Apache-2.0
"""A scenario as data. Times are seconds from its start, shares are 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["loss", "recovers", "delay", "silent"]


@dataclass(frozen=True, slots=True)
class Flow:
    """Numbered UDP packets from one node to another's overlay address, evenly spaced."""

    name: str
    source: str
    target: str
    rate: float
    """Packets a second."""
    size: int
    """Bytes of UDP payload."""


@dataclass(frozen=True, slots=True)
class Step:
    at: float
    fault: str
    """As `lab fault` takes it, e.g. `link c1-g1 down`."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must hold of a flow's packets that were sent in [since, until).

    loss: at most `limit` of them are lost. recovers: no run of lost ones lasts longer than `limit` seconds. delay: the
    99th percentile of the one-way delay is at most `limit` seconds. silent: none arrives.
    """

    flow: str
    kind: Kind
    limit: float
    since: float
    until: float
    fails: str = ""
    """Why it is known not to hold yet; then it must not hold, with the figure in the report."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    topology: str
    seed: int
    duration: float
    flows: tuple[Flow, ...]
    steps: tuple[Step, ...]
    """In order of time."""
    expectations: tuple[Expectation, ...]
    text: str
    """The file, for the report."""
