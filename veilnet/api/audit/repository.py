# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, delete, select

from veilnet.api.audit.models import FIRST, AuditAnchor, AuditEvent
from veilnet.api.audit.schemas import AuditFilter
from veilnet.api.db import Repository
from veilnet.api.platform.roles import RealmIds


class AuditRepository(Repository[AuditEvent]):
    model = AuditEvent

    def visible(self, realms: RealmIds) -> Select[AuditEvent]:
        query = self.all()
        return query if realms is None else query.where(AuditEvent.realm_id.in_(realms))

    def filtered(self, realms: RealmIds, filters: AuditFilter) -> Select[AuditEvent]:
        query = self.visible(realms)
        for name in ("actor_id", "action", "subject"):
            wanted = getattr(filters, name)
            if wanted is not None:
                query = query.where(getattr(AuditEvent, name) == wanted)
        return query

    async def after(self, seq: int, limit: int, realms: RealmIds = None) -> list[AuditEvent]:
        query = self.visible(realms).where(AuditEvent.seq > seq).order_by(AuditEvent.seq).limit(limit)
        return list(await self.session.scalars(query))

    async def last(self) -> AuditEvent | None:
        return await self.session.scalar(select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(1))

    async def anchor(self) -> tuple[int, str]:
        """(number, hash) of the last entry that was dropped."""
        row = await self.session.scalar(select(AuditAnchor).order_by(AuditAnchor.seq.desc()).limit(1))
        return (0, FIRST) if row is None else (row.seq, row.hash)

    async def drop_up_to(self, seq: int, entry_hash: str, now: int) -> None:
        await self.session.execute(delete(AuditEvent).where(AuditEvent.seq <= seq))
        await self.session.execute(delete(AuditAnchor))
        self.session.add(AuditAnchor(seq=seq, hash=entry_hash, created_at=now))
        await self.session.flush()
