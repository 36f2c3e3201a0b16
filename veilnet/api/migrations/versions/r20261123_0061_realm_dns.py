# SPDX-License-Identifier: Apache-2.0
"""Names of a realm."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0061"
down_revision = "20261123_0060"


def upgrade() -> None:
    op.add_column("realms", sa.Column("dns", sa.JSON(), nullable=False, server_default="{}"))
