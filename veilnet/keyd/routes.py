# SPDX-License-Identifier: Apache-2.0
"""Carries out what the engine wishes of the host: accepted networks are routed into veil0, own ones forwarded to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog
from pyroute2 import NetlinkError

from veilnet.keyd.core import RouteNetworks
from veilnet.loader import routing

PERIOD: Final = 10.0
"""Seconds between looks at what others have done to our routes."""

log = structlog.get_logger("veilnet.keyd")


class HostRoutes:
    """`wish` takes effect at once; routes outlive this, as the data plane does. `missing`, for status:
    what this host lacks to forward for its own networks."""

    def __init__(self, instance: str, device: str) -> None:
        self._instance, self._device = instance, device
        self._wish: RouteNetworks | None = None
        self._changed = asyncio.Event()
        self.missing: list[str] = []

    def wish(self, wish: RouteNetworks) -> None:
        self._wish = wish
        self._changed.set()

    async def run(self) -> None:
        while True:
            idle = self._wish is None or not (self._wish.accepted or self._wish.own)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if idle else PERIOD)
            self._changed.clear()
            if self._wish is not None:
                await asyncio.to_thread(self._apply, self._wish)  # pyroute2 has a loop of its own

    def _apply(self, wish: RouteNetworks) -> None:
        """What the kernel refuses is said and tried again."""
        try:
            if routing.ensure(self._instance, self._device, wish.accepted):
                log.info("networks_routed", networks=[str(network) for network in wish.accepted])
            missing = routing.missing_forwarding(self._device, wish.own)
        except (NetlinkError, OSError) as error:
            log.error("networks_not_routed", error=str(error))
            return
        if missing and missing != self.missing:
            log.warning("gateway_not_forwarding", missing=missing, remedy="sysctl -w NAME=1; see docs/networks.md")
        self.missing = missing
