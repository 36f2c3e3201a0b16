# SPDX-License-Identifier: Apache-2.0
"""What a running Master consists of; made by `create_app`, reached by dependencies, replaced by nobody."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.access.cache import VerifiedTokens
from veilnet.api.ca import CaStore
from veilnet.api.hub import Hub
from veilnet.api.identity.keys import ProviderKeys
from veilnet.api.nodes.descriptors import DescriptorWriter
from veilnet.api.nodes.sightings import Sightings
from veilnet.api.operations.runner import OperationRunner
from veilnet.api.ops.metrics import Metrics
from veilnet.api.platform.rate_limit import RateLimiter
from veilnet.api.realms.lifetimes import KnownLifetimes
from veilnet.api.sealing import Sealer
from veilnet.api.settings import MasterSettings


@dataclass(frozen=True)
class Context:
    settings: MasterSettings
    engine: AsyncEngine
    cas: CaStore
    clock: Callable[[], int]
    limiter: RateLimiter
    sealer: Sealer
    metrics: Metrics = field(default_factory=Metrics)
    hub: Hub = field(default_factory=Hub)
    verified: VerifiedTokens = field(default_factory=VerifiedTokens)
    provider_keys: ProviderKeys = field(default_factory=ProviderKeys)
    publishing: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """One builder of a realm's snapshot at a time."""
    operations: OperationRunner = field(init=False)
    sightings: Sightings = field(init=False)
    lifetimes: KnownLifetimes = field(init=False)
    descriptors: DescriptorWriter = field(init=False)
    in_flight: set[tuple[str, str, str]] = field(default_factory=set)
    """Idempotency keys of requests that this process is carrying out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", OperationRunner(self.engine, self.hub, self.clock))
        object.__setattr__(self, "sightings", Sightings(self.engine, self.hub))
        object.__setattr__(self, "lifetimes", KnownLifetimes(self.engine, self.settings))
        object.__setattr__(self, "descriptors", DescriptorWriter(self.engine, self.hub))
