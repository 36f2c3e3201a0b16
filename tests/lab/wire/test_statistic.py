# SPDX-License-Identifier: Apache-2.0
"""What the comparison with netem rests on and takes no minutes: its parameters, the tables and the statistic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.wire.cases import CASES, FRAMES
from tests.lab.wire.statistic import chi_square_tail
from veilnet.lab.wire.impairment import netem_arguments
from veilnet.lab.wire.settings import TABLES, table


def test_netem_had_the_same_parameters() -> None:
    netem = json.loads(Path(__file__).with_name("netem.json").read_text())
    for name, impairment in CASES.items():
        assert netem["cases"][name]["netem"] == " ".join(netem_arguments(impairment))
        assert netem["cases"][name]["frames"] == FRAMES


@pytest.mark.parametrize("distribution", TABLES)
def test_tables_are_those_of_tc(distribution: str) -> None:
    """Quantiles within a fortieth of a jitter, the extreme hundredth aside."""
    files = list(Path("/usr/lib").glob(f"**/tc/{distribution}.dist"))
    assert files, "iproute2 installs its tables under /usr/lib/*/tc"
    words = " ".join(line for line in files[0].read_text().splitlines() if not line.startswith("#")).split()
    theirs, ours = sorted(map(int, words)), sorted(table(TABLES[TABLES.index(distribution)]))
    assert len(theirs) == len(ours)
    edge = len(ours) // 100
    assert max(abs(a - b) for a, b in zip(theirs[edge:-edge], ours[edge:-edge], strict=True)) < 8192 / 40


# Abramowitz and Stegun, table 26.8: percentage points of the chi-square distribution at 0.01
@pytest.mark.parametrize(("freedom", "point"), [(1, 6.63490), (2, 9.21034), (5, 15.0863), (10, 23.2093)])
def test_chi_square_tail(freedom: int, point: float) -> None:
    assert chi_square_tail(point, freedom) == pytest.approx(0.01, rel=1e-4)
