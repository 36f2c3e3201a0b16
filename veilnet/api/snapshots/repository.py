# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.snapshots.models import Snapshot


class SnapshotRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def last(self, realm_id: str) -> Snapshot | None:
        return await self.session.get(Snapshot, realm_id)

    async def store(self, snapshot: Snapshot) -> Snapshot:
        return await self.session.merge(snapshot)
