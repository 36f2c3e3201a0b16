# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class ApiToken(VersionedEntity):
    """A standing one is bounded by its grants, and by those of its owner, if it has one; the first token has none.

    One of a session or of client credentials does what its owner may do, for a short time.
    """

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="standing")
    """`standing`, `session` (a person signed in) or `access` (client credentials)."""
    owner_id: Mapped[str | None] = mapped_column(index=True)
    """Id of a user or a service account."""
    grants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`{"role": ..., "realm_id": ... or null}`."""
    scopes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Names like `nodes:read` that it is narrowed to; null is not narrowed."""
    created_by: Mapped[str | None] = mapped_column(index=True)
    """Id of the user, service account or token without owner that asked for it."""
    provider_id: Mapped[str | None]
    """Identity provider of a session."""
    provider_groups: Mapped[list[str]] = mapped_column(JSON, server_default="[]")
    """Names of groups that the provider put into the ID token."""
    created_at: Mapped[int]
    expires_at: Mapped[int]
    last_used_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
