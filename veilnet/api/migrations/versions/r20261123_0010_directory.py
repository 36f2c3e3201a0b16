# SPDX-License-Identifier: Apache-2.0
"""Signed records instead of whole snapshots; taints, policies, CA keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0010"
down_revision = "20261123_0002"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("nodes", sa.Column("taints", sa.JSON(), nullable=False, server_default="[]"))
    op.drop_table("snapshots")
    op.create_table(
        "directory_changes",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_directory_changes_node_id_nodes")),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_directory_changes_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_directory_changes")),
    )
    op.create_index(op.f("ix_directory_changes_realm_id"), "directory_changes", ["realm_id"], unique=False)
    op.create_table(
        "directory_records",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("facts_version", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("signer", sa.String(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("renew_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_directory_records_node_id_nodes")),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_directory_records_realm_id_realms")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_directory_records")),
    )
    for column in ("version", "renew_at"):
        op.create_index(f"ix_directory_records_realm_id_{column}", "directory_records", ["realm_id", column])
    op.create_table(
        "directory_heads",
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("renew_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_directory_heads_realm_id_realms")),
        sa.PrimaryKeyConstraint("realm_id", name=op.f("pk_directory_heads")),
    )
    op.create_table(
        "realm_policies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_realm_policies_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_realm_policies")),
        sa.UniqueConstraint("realm_id", name=op.f("uq_realm_policies_realm_id")),
    )
    op.create_table(
        "ca_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("succession", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.id"], name=op.f("fk_ca_keys_realm_id_realms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_keys")),
        sa.UniqueConstraint("realm_id", "serial", name=op.f("uq_ca_keys_realm_id_serial")),
    )
    op.create_index(op.f("ix_ca_keys_realm_id"), "ca_keys", ["realm_id"], unique=False)
