# SPDX-License-Identifier: Apache-2.0
"""Which Masters could write, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0064"
down_revision = "20261123_0063"


def upgrade() -> None:
    op.create_table(
        "replicas_seen",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ephemeral_seconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_replicas_seen")),
    )
