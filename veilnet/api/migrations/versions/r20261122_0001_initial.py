# SPDX-License-Identifier: Apache-2.0
"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261122_0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "admin_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_tokens")),
    )
    op.create_table(
        "realms",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("wire_id", sa.String(), nullable=False),
        sa.Column("ca_key", sa.String(), nullable=False),
        sa.Column("ipv4_range", sa.String(), nullable=False),
        sa.Column("ipv6_prefix", sa.String(), nullable=False),
        sa.Column("min_guardians", sa.BigInteger(), nullable=False),
        sa.Column("rekey_seconds", sa.BigInteger(), nullable=False),
        sa.Column("idle_seconds", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("revision > 0", name=op.f("ck_realms_revision_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_realms")),
        sa.UniqueConstraint("name", name=op.f("uq_realms_name")),
        sa.UniqueConstraint("wire_id", name=op.f("uq_realms_wire_id")),
    )
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("node_name", sa.String(), nullable=True),
        sa.Column("usage_limit", sa.BigInteger(), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("usage_limit IS NULL OR usage_limit > 0", name=op.f("ck_enrolment_tokens_limit_positive")),
        sa.CheckConstraint(
            "used >= 0 AND (usage_limit IS NULL OR used <= usage_limit)",
            name=op.f("ck_enrolment_tokens_used_within_limit"),
        ),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_enrolment_tokens_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_index(op.f("ix_enrolment_tokens_realm_id"), "enrolment_tokens", ["realm_id"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.String(), nullable=False),
        sa.Column("renew_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_snapshots_realm_id_realms")),
        sa.PrimaryKeyConstraint("realm_id", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("ipv4", sa.String(), nullable=False),
        sa.Column("ipv6", sa.String(), nullable=False),
        sa.Column("certificate", sa.JSON(), nullable=False),
        sa.Column("certificate_serial", sa.BigInteger(), nullable=False),
        sa.Column("certificate_not_after", sa.BigInteger(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("descriptor", sa.JSON(), nullable=False),
        sa.Column("descriptor_serial", sa.BigInteger(), nullable=False),
        sa.Column("descriptor_expires", sa.BigInteger(), nullable=False),
        sa.Column("credential_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_nodes_realm_id_realms")),
        sa.ForeignKeyConstraint(["token_id"], ["enrolment_tokens.id"], name=op.f("fk_nodes_token_id_enrolment_tokens")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("node_id", name=op.f("uq_nodes_node_id")),
    )
    op.create_index(op.f("ix_nodes_realm_id"), "nodes", ["realm_id"], unique=False)
    op.create_index(
        "uq_nodes_alive_ipv4",
        "nodes",
        ["realm_id", "ipv4"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(
        "uq_nodes_alive_ipv6",
        "nodes",
        ["realm_id", "ipv6"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(
        "uq_nodes_alive_name",
        "nodes",
        ["realm_id", "name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "edges",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("a_id", sa.String(), nullable=False),
        sa.Column("b_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("a_id < b_id", name=op.f("ck_edges_ordered")),
        sa.ForeignKeyConstraint(["a_id"], ["nodes.id"], name=op.f("fk_edges_a_id_nodes")),
        sa.ForeignKeyConstraint(["b_id"], ["nodes.id"], name=op.f("fk_edges_b_id_nodes")),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_edges_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edges")),
        sa.UniqueConstraint("a_id", "b_id", name=op.f("uq_edges_a_id_b_id")),
    )
    op.create_index(op.f("ix_edges_b_id"), "edges", ["b_id"], unique=False)
    op.create_index(op.f("ix_edges_realm_id"), "edges", ["realm_id"], unique=False)
