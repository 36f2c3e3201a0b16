# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class AdvertisedNetwork(VersionedEntity):
    """A prefix behind a node. What is approved stands in the node's row too, from which its certificate is made."""

    __tablename__ = "advertised_networks"
    __table_args__ = (UniqueConstraint("node_id", "prefix"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"))
    prefix: Mapped[str]
    """In its one text form."""
    proposed: Mapped[bool]
    """By the node: it goes when the node proposes it no more. Else an administrator's own."""
    state: Mapped[str]
    decided_at: Mapped[int | None]
    created_at: Mapped[int]
