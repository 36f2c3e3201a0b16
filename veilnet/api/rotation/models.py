# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64

from sqlalchemy import JSON, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Entity
from veilnet.protocol.envelope import key_id


class CaKey(Entity):
    """A realm's CA key after the first (which the realm's row has). Private keys are files, not here."""

    __tablename__ = "ca_keys"
    __table_args__ = (UniqueConstraint("realm_id", "serial"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    serial: Mapped[int]
    key: Mapped[str]
    """Public ML-DSA-65 key, base64."""
    succession: Mapped[dict[str, str]] = mapped_column(JSON)
    """Signed by the key before it."""
    created_at: Mapped[int]
    activated_at: Mapped[int | None]
    """From then on it signs."""
    finished_at: Mapped[int | None]
    """From then on the keys before it are retired."""

    @property
    def key_id(self) -> str:
        return key_id(base64.b64decode(self.key)).hex()
