# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import select

from veilnet.api.db import Repository
from veilnet.api.rotation.models import CaKey


class CaKeyRepository(Repository[CaKey]):
    model = CaKey

    async def of_realm(self, realm_id: str) -> list[CaKey]:
        """Oldest first."""
        query = select(CaKey).where(CaKey.realm_id == realm_id).order_by(CaKey.serial)
        return list(await self.session.scalars(query))
