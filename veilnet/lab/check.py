# SPDX-License-Identifier: Apache-2.0
"""`lab check`: does the lab do what its file says? Every node pings every other, at the MTU and one byte above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from veilnet.lab import echo
from veilnet.lab.lab import Lab
from veilnet.lab.net import NETNS_DIR
from veilnet.lab.topology import Topology
from veilnet.lab.topology.expect import Expectation, Expectations

SMALL = 64
"""Bytes of the echo request that shows whether a node is reached at all."""
PATIENCE = 8.0
MARGIN = 0.5


@dataclass(frozen=True)
class Verdict:
    """What the file says beside what was measured."""

    expectation: Expectation
    reached: bool
    fits: bool
    """Whether an echo request as long as the path's MTU is answered."""
    exceeds: bool
    """Whether one byte more is answered, too."""

    @property
    def good(self) -> bool:
        if self.expectation.mtu is None:
            return not self.reached
        return self.reached and self.fits and not self.exceeds

    def __str__(self) -> str:
        said = self.expectation
        way = f"{said.source} -> {said.target} ({said.address})"
        if said.mtu is None:
            return f"{way}: {'answers, the file says it is not reached' if self.reached else 'not reached'}"
        if not self.reached:
            return f"{way}: no answer, the file says it is reached"
        if not self.fits:
            return f"{way}: MTU {said.mtu} by the file, no answer at that size"
        return f"{way}: MTU {said.mtu}" + (" by the file, but one byte more is answered" if self.exceeds else "")


def check(lab: Lab) -> list[Verdict]:
    """Verdicts on every pair of nodes, both ways, and on the management network."""
    expectations = Expectations(lab.topology)
    found = _measure(lab, list(expectations.all()))
    # all nodes may be on the management network's one bridge; the Master alone asks there
    return found + _measure(lab, list(expectations.management()))


def _measure(lab: Lab, wanted: Sequence[Expectation]) -> list[Verdict]:
    trios = [_echoes(lab, expectation) for expectation in wanted]
    longest = 2 * sum_of_delays(lab.topology)
    echo.run([each for trio in trios for each in trio], PATIENCE + longest, MARGIN + longest)
    return [
        Verdict(expectation, *(each.answered for each in trio)) for expectation, trio in zip(wanted, trios, strict=True)
    ]


def _echoes(lab: Lab, expectation: Expectation) -> tuple[echo.Echo, echo.Echo, echo.Echo]:
    namespace = NETNS_DIR / lab.namespace(expectation.source)
    address, mtu = expectation.address, expectation.mtu
    reached = mtu is not None
    small = echo.Echo(namespace, address, SMALL, expected=reached)
    fits = echo.Echo(namespace, address, mtu or SMALL, expected=reached)
    return small, fits, echo.Echo(namespace, address, (mtu or SMALL) + 1, expected=False)


def sum_of_delays(topology: Topology) -> float:
    """Seconds, at most, that the wires of one path delay a packet; taken long, for a mesh a single wire's."""
    delays = sorted((max(way.delay + way.jitter for way in link.directions) for link in topology.wired), reverse=True)
    return min(sum(delays[:8]), 2.0)
