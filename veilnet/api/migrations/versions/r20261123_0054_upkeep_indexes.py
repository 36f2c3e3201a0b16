# SPDX-License-Identifier: Apache-2.0
"""What is looked for twice a minute is found by index: a node's row is long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0054"
down_revision = "20261123_0053"


def upgrade() -> None:
    op.create_index("ix_nodes_certificate_not_after", "nodes", ["certificate_not_after"])
    _partial("ix_nodes_expires_at", "expires_at", "expires_at IS NOT NULL")
    _partial("ix_nodes_deleted_at", "deleted_at", "deleted_at IS NOT NULL")
    _partial("ix_nodes_ephemeral", "id", "ephemeral", "ephemeral = 1")


def _partial(name: str, column: str, where: str, sqlite_where: str | None = None) -> None:
    elsewhere = sa.text(sqlite_where or where)
    op.create_index(name, "nodes", [column], postgresql_where=sa.text(where), sqlite_where=elsewhere)
