# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class IdempotencyKey(Base):
    """A POST that was carried out, and its answer, sealed under what only its caller has."""

    __tablename__ = "idempotency_keys"

    principal_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    """Method and path as sent, query included."""
    body_hash: Mapped[str]
    status: Mapped[int]
    sealed: Mapped[bytes]
    created_at: Mapped[int] = mapped_column(index=True)
