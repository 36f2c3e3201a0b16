# SPDX-License-Identifier: Apache-2.0
"""Every realm has a policy row, and it has a version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0011"
down_revision = "20261123_0010"


def upgrade() -> None:
    op.add_column("realm_policies", sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"))
    op.execute(
        "INSERT INTO realm_policies (id, realm_id, document, created_at, updated_at) "
        "SELECT 'pol_' || substr(id, 5), id, '{}', created_at, created_at FROM realms"
    )
