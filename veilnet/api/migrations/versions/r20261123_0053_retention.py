# SPDX-License-Identifier: Apache-2.0
"""Jobs that one replica does, and where the audit begins once its oldest entries are dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0053"
down_revision = "20261123_0052"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
    )
    op.create_table(
        "audit_anchors",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_anchors")),
    )
    op.execute("INSERT INTO jobs (name, next_at) VALUES ('retention', 0)")
