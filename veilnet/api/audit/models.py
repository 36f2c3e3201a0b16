# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base, Entity

FIRST: Final = "0" * 64
"""What stands before entry 1."""


class AuditEvent(Entity):
    """One mutation. Never updated; each hash covers the entry and the hash before it."""

    __tablename__ = "audit_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(unique=True)
    """Counts from 1 without gaps."""
    created_at: Mapped[int]
    realm_id: Mapped[str | None] = mapped_column(index=True)
    action: Mapped[str]
    """The route's operationId."""
    actor_kind: Mapped[str]
    actor_id: Mapped[str] = mapped_column(index=True)
    actor_name: Mapped[str]
    token_id: Mapped[str | None]
    request_id: Mapped[str]
    source: Mapped[str]
    subject: Mapped[str | None] = mapped_column(index=True)
    """Id of what was changed."""
    changes: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Field → `[before, after]`; secrets never stand here."""
    hash: Mapped[str]


class AuditAnchor(Base):
    """The last entry that was dropped: the chain verifies from its hash on. One row, or none."""

    __tablename__ = "audit_anchors"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[str]
    created_at: Mapped[int]
