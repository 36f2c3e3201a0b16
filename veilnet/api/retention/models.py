# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class Job(Base):
    """Work that one replica does now and then: whoever moves `next_at` on has the turn."""

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[int]
