# SPDX-License-Identifier: Apache-2.0
"""Users, groups, service accounts, operations; approval, expiry and labels of nodes; what enrolment tokens ask for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0003"
down_revision = "20261123_0011"  # landed first; the chain is what counts, not the number


def upgrade() -> None:
    _accounts()
    _operations()
    _nodes()
    _tokens()


def _named(table: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        *columns,
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("name", name=op.f(f"uq_{table}_name")),
    )


def _accounts() -> None:
    _named(
        "users",
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("last_login_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("uq_users_identity", "users", ["issuer", "subject"], unique=True)
    _named("groups", sa.Column("description", sa.String(), nullable=False))
    _named(
        "service_accounts",
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "group_members",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_members_group_id_groups")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_members_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_members")),
        sa.UniqueConstraint("group_id", "user_id", name=op.f("uq_group_members_group_id_user_id")),
    )
    op.create_index(op.f("ix_group_members_user_id"), "group_members", ["user_id"])


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_operations_known_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    op.create_index(op.f("ix_operations_state"), "operations", ["state"])


def _nodes() -> None:
    op.add_column("nodes", sa.Column("approved_at", sa.BigInteger(), nullable=True))
    op.add_column("nodes", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("nodes", sa.Column("expired_at", sa.BigInteger(), nullable=True))
    op.add_column("nodes", sa.Column("drained_at", sa.BigInteger(), nullable=True))
    op.add_column("nodes", sa.Column("ephemeral", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("nodes", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.execute("UPDATE nodes SET approved_at = created_at")


def _tokens() -> None:
    for column in ("ephemeral", "requires_approval"):
        op.add_column("enrolment_tokens", sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))
    for column in ("auto_taints", "allowed_cidrs"):
        op.add_column("enrolment_tokens", sa.Column(column, sa.JSON(), nullable=False, server_default="[]"))
