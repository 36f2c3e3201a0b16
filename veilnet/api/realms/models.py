# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class Realm(VersionedEntity):
    __tablename__ = "realms"
    __table_args__ = (CheckConstraint("revision > 0", name="revision_positive"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    wire_id: Mapped[str] = mapped_column(unique=True)
    """Realm id of the protocol, 32 hexadecimal digits: first half of the CA fingerprint."""
    ca_key: Mapped[str]
    """Public ML-DSA-65 key, base64."""
    ipv4_range: Mapped[str]
    ipv6_prefix: Mapped[str]
    min_guardians: Mapped[int]
    rekey_seconds: Mapped[int]
    idle_seconds: Mapped[int]
    certificate_seconds: Mapped[int | None]
    """These three are None where the Master's own count (`lifetimes`)."""
    grace_seconds: Mapped[int | None]
    ephemeral_seconds: Mapped[int | None]
    lifetimes_changed_at: Mapped[int] = mapped_column(server_default="0")
    """No node was away longer than since then: its replica went by the lifetimes from before."""
    dns: Mapped[dict[str, Any]] = mapped_column(JSON, server_default="{}")
    """`suffix` (null: made from the realm's name) and `records`; empty where nobody has said anything."""
    revision: Mapped[int]
    """Rises with every change that nodes must learn of; the version of the snapshot."""
    version_floor: Mapped[int] = mapped_column(server_default="0")
    """What was signed under lower revisions counts no more: from there on the database was a restored one."""
    created_at: Mapped[int]
