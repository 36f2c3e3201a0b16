# SPDX-License-Identifier: Apache-2.0
"""Networks behind nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0060"
down_revision = "20261123_0054"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("networks", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "advertised_networks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("proposed", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_advertised_networks_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_advertised_networks_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_advertised_networks")),
        sa.UniqueConstraint("node_id", "prefix", name=op.f("uq_advertised_networks_node_id_prefix")),
    )
    op.create_index(op.f("ix_advertised_networks_realm_id"), "advertised_networks", ["realm_id"])
