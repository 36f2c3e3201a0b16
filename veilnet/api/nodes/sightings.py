# SPDX-License-Identifier: Apache-2.0
"""When nodes were last seen. A fleet that connects at once is noted in a few transactions, not in one a node."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import write_session
from veilnet.api.hub import Hub
from veilnet.api.nodes.repository import NodeRepository


class Sightings:
    def __init__(self, engine: AsyncEngine, hub: Hub) -> None:
        self._engine, self._hub = engine, hub
        self._waiting: dict[str, int] = {}
        self._writing = asyncio.Lock()

    async def note(self, row_id: str, now: int) -> None:
        """Returns when it is committed, with all that came while the one before was under way."""
        self._waiting[row_id] = now
        async with self._writing:
            if row_id not in self._waiting:
                return
            batch, self._waiting = self._waiting, {}
            async with write_session(self._engine, self._hub) as session:
                await NodeRepository(session).touch(batch)
