# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base


class Snapshot(Base):
    """The last signed snapshot of a realm."""

    __tablename__ = "snapshots"

    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), primary_key=True)
    version: Mapped[int]
    envelope: Mapped[str]
    """JSON text of the envelope, sent as it stands."""
    renew_at: Mapped[int]
    """From then on it is signed again, with a higher version, even if nothing changed."""
