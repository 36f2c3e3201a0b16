# SPDX-License-Identifier: Apache-2.0
"""Token buckets per caller, reads and writes apart. In this process only: N replicas give a caller up to N times."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from veilnet.api.errors import TooMany

_BUCKETS_MAX: Final = 20_000


class Rate(BaseModel):
    """`per_second` in the long run, `burst` at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_second: float = Field(gt=0)
    burst: int = Field(gt=0)


class RateSettings(BaseModel):
    """`anonymous` counts by source address: requests without credential, and those whose credential was refused.
    `login` does too: requests that change an ID token or a client secret for a token of this Master. `networks`: a
    node's proposals, which an administrator has to look at; `software`: what it says that it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: Rate = Rate(per_second=100, burst=500)
    write: Rate = Rate(per_second=100, burst=300)
    anonymous: Rate = Rate(per_second=50, burst=200)
    login: Rate = Rate(per_second=2, burst=60)
    networks: Rate = Rate(per_second=0.1, burst=10)
    software: Rate = Rate(per_second=0.1, burst=10)


@dataclass
class _Bucket:
    level: float
    filled_at: float


class RateLimiter:
    def __init__(self, settings: RateSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = {kind: getattr(settings, kind) for kind in RateSettings.model_fields}
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, kind: str, who: str) -> None:
        """Take one; raises TooMany with the seconds to wait when the bucket is empty."""
        rate, now = self._rates[kind], self._clock()
        bucket = self._buckets.pop((kind, who), None) or _Bucket(rate.burst, now)
        bucket.level = min(rate.burst, bucket.level + (now - bucket.filled_at) * rate.per_second)
        bucket.filled_at = now
        self._buckets[kind, who] = bucket  # the latest stand last
        while len(self._buckets) > _BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if bucket.level < 1:
            raise TooMany(kind, math.ceil((1 - bucket.level) / rate.per_second))
        bucket.level -= 1
