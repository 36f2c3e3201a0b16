# SPDX-License-Identifier: Apache-2.0
"""From which version on a realm's records count: raised when the database is restored from a backup."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0050"
down_revision = "20261123_0040"


def upgrade() -> None:
    op.add_column("realms", sa.Column("version_floor", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("directory_heads", sa.Column("floor", sa.BigInteger(), nullable=False, server_default="0"))
