# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class ExpiryNotice(Base):
    """An end of validity that was announced: once for each `days`, and anew when the end has moved."""

    __tablename__ = "expiry_notices"

    subject: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """Type of the event."""
    ends_at: Mapped[int] = mapped_column(primary_key=True, index=True)
    days: Mapped[int] = mapped_column(primary_key=True)


class ReplicaSeen(Base):
    """A Master that could write at that time, and by what it goes where a realm has nothing of its own."""

    __tablename__ = "replicas_seen"

    name: Mapped[str] = mapped_column(primary_key=True)
    """Of a process: made at its start."""
    seen_at: Mapped[int] = mapped_column(BigInteger)
    ephemeral_seconds: Mapped[int]
