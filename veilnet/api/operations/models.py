# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Entity


class Operation(Entity):
    """Work that outlives its request. Whoever runs it renews `heartbeat_at`; without, it counts as dead."""

    __tablename__ = "operations"
    __table_args__ = (CheckConstraint("state IN ('running', 'succeeded', 'failed', 'cancelled')", name="known_state"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    realm_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(index=True)
    done: Mapped[int]
    total: Mapped[int | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[int]
    ended_at: Mapped[int | None]
    heartbeat_at: Mapped[int]
    cancel_asked: Mapped[bool]
