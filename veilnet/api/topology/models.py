# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class Edge(VersionedEntity):
    """Two nodes that may be neighbours. Unordered: the smaller row id stands first."""

    __tablename__ = "edges"
    __table_args__ = (UniqueConstraint("a_id", "b_id"), CheckConstraint("a_id < b_id", name="ordered"))

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    a_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    b_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"), index=True)
    created_at: Mapped[int]
