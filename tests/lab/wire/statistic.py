# SPDX-License-Identifier: Apache-2.0
"""The tests that say whether two samples differ."""

from __future__ import annotations

import math
from collections.abc import Mapping

Z99 = 2.5758  # two-sided 99 % of the normal distribution
Z99_OF_FIVE = 3.0902  # each of five tests, so that all hold in 99 % (Bonferroni)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Probability of a chi-square value at least this large (Abramowitz and Stegun 26.4.4, 26.4.5)."""
    half = statistic / 2
    if freedom % 2:
        total = math.erfc(math.sqrt(half))
        term = math.sqrt(half) * math.exp(-half) / math.gamma(1.5)
        steps = [1.5 + n for n in range((freedom - 1) // 2)]
    else:
        total, term = 0.0, math.exp(-half)
        steps = [1.0 + n for n in range(freedom // 2)]
    for step in steps:
        total += term
        term *= half / step
    return total


def homogeneity(one: Mapping[int, int], other: Mapping[int, int], least: int = 10) -> float:
    """p of Pearson's chi-square test that both histograms come from one distribution. Bins are joined upwards until
    each holds `least` of both together."""
    bins: list[list[int]] = [[0, 0]]
    for value in sorted({*one, *other}):
        if sum(bins[-1]) >= least:
            bins.append([0, 0])
        bins[-1][0] += one.get(value, 0)
        bins[-1][1] += other.get(value, 0)
    if len(bins) > 1 and sum(bins[-1]) < least:
        last = bins.pop()
        bins[-1] = [a + b for a, b in zip(bins[-1], last, strict=True)]
    sums = [sum(pair[n] for pair in bins) for n in (0, 1)]
    statistic = 0.0
    for pair in bins:
        for n in (0, 1):
            expected = sum(pair) * sums[n] / sum(sums)
            statistic += (pair[n] - expected) ** 2 / expected
    return chi_square_tail(statistic, len(bins) - 1) if len(bins) > 1 else 1.0


def shares_differ(one: int, other: int, trials: int, inflation: float = 1.0) -> float:
    """|z| of two shares of as many trials each. `inflation`: of the variance, for trials that are not independent."""
    pooled = (one + other) / (2 * trials)
    if pooled in (0.0, 1.0):
        return 0.0
    return abs(one - other) / trials / math.sqrt(2 * pooled * (1 - pooled) / trials * inflation)


def chain_inflation(p: float, r: float) -> float:
    """Of the variance of a two-state chain's share, against independent draws (sum of its autocorrelations)."""
    stay = 1 - p - r
    return (1 + stay) / (1 - stay)
