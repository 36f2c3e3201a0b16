# SPDX-License-Identifier: Apache-2.0
"""Lifetimes of a realm's own; when the last certificate of a node ends, also where a later one ends before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0062"
down_revision = "20261123_0061"


def upgrade() -> None:
    for name in ("certificate_seconds", "grace_seconds", "ephemeral_seconds"):
        op.add_column("realms", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("realms", sa.Column("lifetimes_changed_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("certificates_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE nodes SET certificates_until = certificate_not_after")
