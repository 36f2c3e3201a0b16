# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, case, select, update

from veilnet.api.db import Repository, note_change
from veilnet.api.platform.roles import RealmIds
from veilnet.api.realms.models import Realm


class RealmRepository(Repository[Realm]):
    model = Realm

    async def find(self, id_or_name: str) -> Realm | None:
        return await self.session.scalar(select(Realm).where((Realm.id == id_or_name) | (Realm.name == id_or_name)))

    def visible(self, realms: RealmIds) -> Select[Realm]:
        return self.all() if realms is None else self.all().where(Realm.id.in_(realms))

    async def bump(self, realm_id: str) -> None:
        """Raise the revision: nodes get a new snapshot once this transaction is committed."""
        await self.session.execute(
            update(Realm).where(Realm.id == realm_id).values(revision=Realm.revision + 1),
            execution_options={"synchronize_session": "evaluate"},
        )
        note_change(self.session, realm_id)

    async def raise_versions(self, realm_id: str, least: int) -> None:
        """Revisions go on above `least` and above all there were; records below count no more."""
        above = case((Realm.revision < least, least), else_=Realm.revision) + 1
        query = update(Realm).where(Realm.id == realm_id).values(revision=above, version_floor=above)
        await self.session.execute(query)
        note_change(self.session, realm_id)
