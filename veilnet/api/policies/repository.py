# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import select

from veilnet.api.db import Repository
from veilnet.api.policies.models import RealmPolicy


class PolicyRepository(Repository[RealmPolicy]):
    model = RealmPolicy

    async def of_realm(self, realm_id: str) -> RealmPolicy | None:
        return await self.session.scalar(select(RealmPolicy).where(RealmPolicy.realm_id == realm_id))
