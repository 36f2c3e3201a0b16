# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class ServiceAccountSecret(VersionedEntity):
    """A client secret (RFC 6749 section 2.3.1); several may count at once while one is being replaced."""

    __tablename__ = "service_account_secrets"

    id: Mapped[str] = mapped_column(primary_key=True)
    service_account_id: Mapped[str] = mapped_column(ForeignKey("service_accounts.id"), index=True)
    hash: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int]
    last_used_at: Mapped[int | None]
