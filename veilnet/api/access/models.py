# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Entity


class AdminToken(Entity):
    __tablename__ = "admin_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]
