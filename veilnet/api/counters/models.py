# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class Counter(Base):
    """Numbers without gaps that become visible in order: the row is locked until the transaction that took them ends.

    A sequence of Postgres gives neither: a later number can be committed before an earlier one, and a reader that
    remembers the highest number it saw would miss the earlier for ever.
    """

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]
