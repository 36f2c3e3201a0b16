# SPDX-License-Identifier: Apache-2.0
"""Do datagrams look uniformly random, byte offset by byte offset?

For each offset the counts of the 256 byte values over all datagrams give a chi-square statistic with 255 degrees of
freedom. The threshold is the value that the largest of all offsets exceeds by chance with probability ALPHA
(Bonferroni), by the Wilson-Hilferty approximation: no table, no scipy. A constant byte over n datagrams scores 255 n.
Use from other tests: `assert_uniform(payloads)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

DEGREES = 255
ALPHA = 1e-6
MIN_DATAGRAMS = 20_000


def threshold(offsets: int, alpha: float = ALPHA) -> float:
    """Chi-square quantile (255 degrees) at 1 - alpha / offsets."""
    z = NormalDist().inv_cdf(1 - alpha / offsets)
    spread = 2 / (9 * DEGREES)
    return float(DEGREES * (1 - spread + z * spread**0.5) ** 3)


def chi_square(column: bytes) -> float:
    """Statistic of one offset: `column` holds that byte of every datagram."""
    expected = len(column) / 256
    # sum (o - e)^2 / e = sum o^2 / e - n
    return sum(count * count for count in Counter(column).values()) / expected - len(column)


def suspicious(payloads: Sequence[bytes], alpha: float = ALPHA) -> dict[int, float]:
    """offset → statistic, of the offsets above the threshold, up to the shortest payload's length."""
    length = min(map(len, payloads))
    joined = b"".join(payload[:length] for payload in payloads)
    limit = threshold(length, alpha)
    scores = {offset: chi_square(joined[offset::length]) for offset in range(length)}
    return {offset: score for offset, score in scores.items() if score > limit}


def pairwise_equal(payloads: Sequence[bytes], width: int = 8, upto: int = 128) -> int:
    """How many windows of `width` bytes, at its multiples below `upto`, stand at one offset of two datagrams.

    Random: none. Headers, nonces and tags stand in front; what follows is a stream cipher's output under them.
    """
    length = min(upto, *map(len, payloads)) // width * width
    windows = [(at, payload[at : at + width]) for payload in payloads for at in range(0, length, width)]
    return len(windows) - len(set(windows))


def assert_uniform(payloads: Sequence[bytes]) -> None:
    assert len(payloads) >= MIN_DATAGRAMS
    assert suspicious(payloads) == {}
    assert pairwise_equal(payloads) == 0
