# SPDX-License-Identifier: Apache-2.0
"""What nodes say that they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0063"
down_revision = "20261123_0062"


def upgrade() -> None:
    for name in ("software_version", "software_provider", "software_kernel"):
        op.add_column("nodes", sa.Column(name, sa.String(), nullable=True))
    op.add_column("nodes", sa.Column("software_since", sa.BigInteger(), nullable=True))
