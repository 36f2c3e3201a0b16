# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import JSON, CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class EnrolmentToken(VersionedEntity):
    __tablename__ = "enrolment_tokens"
    __table_args__ = (
        CheckConstraint("used >= 0 AND (usage_limit IS NULL OR used <= usage_limit)", name="used_within_limit"),
        CheckConstraint("usage_limit IS NULL OR usage_limit > 0", name="limit_positive"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    secret_hash: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(JSON)
    node_name: Mapped[str | None]
    usage_limit: Mapped[int | None]
    """None: any number of nodes."""
    used: Mapped[int]
    expires_at: Mapped[int]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]
    ephemeral: Mapped[bool] = mapped_column(default=False)
    requires_approval: Mapped[bool] = mapped_column(default=False)
    auto_taints: Mapped[list[str]] = mapped_column(JSON, default=list)
    allowed_cidrs: Mapped[list[str]] = mapped_column(JSON, default=list)
