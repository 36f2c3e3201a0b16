# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class OutboxEvent(Base):
    """Something that happened, written in the transaction in which it happened."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Rises by one without gaps, and becomes visible in that order: `id > last seen` misses nothing."""
    type: Mapped[str] = mapped_column(index=True)
    realm_id: Mapped[str | None] = mapped_column(index=True)
    subject: Mapped[str]
    """Id of what it happened to."""
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    request_id: Mapped[str]
    created_at: Mapped[int] = mapped_column(index=True)
