# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import JSON, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column, relationship

from veilnet.api.db import VersionedEntity


class Webhook(VersionedEntity):
    """Where events are sent to. Secrets are sealed under the Master's key, as signing needs them in clear."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str | None] = mapped_column(ForeignKey("realms.id"), index=True)
    name: Mapped[str]
    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(JSON)
    """Empty: every type."""
    enabled: Mapped[bool]
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    old_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    rotation_ends_at: Mapped[int | None]
    created_at: Mapped[int]
    progress: Mapped[WebhookProgress] = relationship(lazy="joined", innerjoin=True, cascade="all", passive_deletes=True)


class WebhookProgress(VersionedEntity):
    """How far a webhook's receiver got; changed by the sender, so it is no part of the configuration's version."""

    __tablename__ = "webhook_progress"

    id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int]
    """Id of the last event that was delivered or skipped."""
    failures: Mapped[int]
    """In a row."""
    failing_since: Mapped[int | None]
    next_at: Mapped[int]
    leased_until: Mapped[int]
    """Until then one replica is sending."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[int | None]
    created_at: Mapped[int]
