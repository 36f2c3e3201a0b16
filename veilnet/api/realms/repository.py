# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, case, delete, select, update

from veilnet.api.db import Base, Repository, note_change
from veilnet.api.platform.roles import RealmIds
from veilnet.api.realms.models import Realm


class RealmRepository(Repository[Realm]):
    model = Realm

    async def find(self, id_or_name: str) -> Realm | None:
        return await self.session.scalar(select(Realm).where((Realm.id == id_or_name) | (Realm.name == id_or_name)))

    def visible(self, realms: RealmIds) -> Select[Realm]:
        return self.all() if realms is None else self.all().where(Realm.id.in_(realms))

    async def alone(self, realm_id: str) -> None:
        """Nobody adds what refers to it until the end of the transaction."""
        await self.session.execute(select(Realm.id).where(Realm.id == realm_id).with_for_update())

    async def erase(self, realm_id: str) -> None:
        """The realm, and every row of every table that belongs to it by a foreign key."""
        for table in reversed(Base.metadata.sorted_tables):
            owner = table.columns.get("realm_id")
            if owner is not None and owner.foreign_keys:
                await self.session.execute(delete(table).where(owner == realm_id))
        await self.session.execute(delete(Realm).where(Realm.id == realm_id))

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
