# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import Base, VersionedEntity


class IdentityProvider(VersionedEntity):
    """An OpenID Connect provider whose ID tokens count here."""

    __tablename__ = "identity_providers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    issuer: Mapped[str] = mapped_column(unique=True)
    client_id: Mapped[str]
    client_secret: Mapped[bytes | None]
    """Sealed (`veilnet.api.sealing`)."""
    groups_claim: Mapped[str]
    group_grants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`{"group": name in the claim, "grants": [...]}`."""
    creates_users: Mapped[bool]
    session_seconds: Mapped[int]
    disabled_at: Mapped[int | None]
    created_at: Mapped[int]


class UsedIdToken(Base):
    """An ID token is taken once; its digest stays until the token's own end."""

    __tablename__ = "used_id_tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[int] = mapped_column(index=True)
