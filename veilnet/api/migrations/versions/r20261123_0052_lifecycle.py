# SPDX-License-Identifier: Apache-2.0
"""Nodes that are deleted, and which ends of validity have been announced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0052"
down_revision = "20261123_0051"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "expiry_notices",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "kind", "ends_at", "days", name=op.f("pk_expiry_notices")),
    )
    op.create_index(op.f("ix_expiry_notices_ends_at"), "expiry_notices", ["ends_at"])
