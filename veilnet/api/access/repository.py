# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import func, select

from veilnet.api.access.models import AdminToken
from veilnet.api.db import Repository


class AdminTokenRepository(Repository[AdminToken]):
    model = AdminToken

    async def count(self) -> int:
        return (await self.session.scalar(select(func.count()).select_from(AdminToken))) or 0
