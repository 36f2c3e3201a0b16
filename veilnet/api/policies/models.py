# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Connection, ForeignKey, event, insert
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from veilnet.api.db import VersionedEntity
from veilnet.api.ids import new_id
from veilnet.api.realms.models import Realm


class RealmPolicy(VersionedEntity):
    """A realm's policy document as its administrator wrote it, tests included. Each realm has one from its
    beginning."""

    __tablename__ = "realm_policies"

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), unique=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[int]
    updated_at: Mapped[int]


@event.listens_for(Realm, "after_insert")
def _realm_added(_: Mapper[Realm], connection: Connection, realm: Realm) -> None:
    made = {"created_at": realm.created_at, "updated_at": realm.created_at, "row_version": 1}
    connection.execute(insert(RealmPolicy).values(id=new_id("pol"), realm_id=realm.id, document={}, **made))
