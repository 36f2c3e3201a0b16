# SPDX-License-Identifier: Apache-2.0
"""When nodes were last seen. A fleet that connects at once is noted in a few transactions, not in one a node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import write_session
from veilnet.api.hub import Hub
from veilnet.api.nodes.repository import NodeRepository

_log: Any = structlog.get_logger("veilnet.api")


@dataclass
class _Batch:
    seen: dict[str, int] = field(default_factory=dict)
    taken: bool = False
    written: bool = False


class Sightings:
    def __init__(self, engine: AsyncEngine, hub: Hub) -> None:
        self._engine, self._hub = engine, hub
        self._next = _Batch()
        self._writing = asyncio.Lock()

    async def note(self, row_id: str, now: int) -> bool:
        """Returns when it is committed, with all that came while the one before was under way; False when it isn't."""
        batch = self._next
        batch.seen[row_id] = now
        async with self._writing:
            if not batch.taken:
                batch.taken, self._next = True, _Batch()
                await self._write(batch)
        return batch.written

    async def _write(self, batch: _Batch) -> None:
        try:
            async with write_session(self._engine, self._hub) as session:
                await NodeRepository(session).touch(batch.seen)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("sightings", error=type(error).__name__, nodes=len(batch.seen))
        else:
            batch.written = True
