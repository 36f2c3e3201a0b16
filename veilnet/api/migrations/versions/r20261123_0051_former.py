# SPDX-License-Identifier: Apache-2.0
"""What a node's facts were before: who saw it then has to be told, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0051"
down_revision = "20261123_0050"


def upgrade() -> None:
    op.add_column("directory_records", sa.Column("former", sa.JSON(), nullable=False, server_default="[]"))
