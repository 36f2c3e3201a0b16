# SPDX-License-Identifier: Apache-2.0
"""API tokens with grants instead of administrators' tokens; versions, audit, outbox, idempotency keys."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "20261123_0002"
down_revision = "20261122_0001"

_YEAR = 365 * 86400


def upgrade() -> None:
    _api_tokens()
    for table in ("realms", "enrolment_tokens", "nodes", "edges"):
        op.add_column(table, sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"))
    _counters()
    _audit()
    _outbox()
    op.create_table(
        "idempotency_keys",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", "key", "route", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def _api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=True),
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
    )
    op.create_index(op.f("ix_api_tokens_owner_id"), "api_tokens", ["owner_id"])
    # The bearer names the row by the part behind the prefix, so tokens that are in use keep working.
    move = sa.text(
        "INSERT INTO api_tokens (id, name, hash, grants, created_at, expires_at, revoked_at) "
        "SELECT 'apt_' || substr(id, 5), name, hash, :grants, created_at, :expires, revoked_at FROM admin_tokens"
    ).bindparams(
        sa.bindparam("grants", [{"role": "owner", "realm_id": None}], sa.JSON()),
        sa.bindparam("expires", int(time.time()) + _YEAR, sa.BigInteger()),
    )
    op.execute(move)
    op.drop_table("admin_tokens")


def _counters() -> None:
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.bulk_insert(counters, [{"name": "audit", "value": 0}, {"name": "outbox", "value": 0}])


def _audit() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("actor_kind", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("seq", name=op.f("uq_audit_events_seq")),
    )
    for column in ("realm_id", "actor_id", "subject"):
        op.create_index(op.f(f"ix_audit_events_{column}"), "audit_events", [column])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("realm_id", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    for column in ("type", "realm_id", "created_at"):
        op.create_index(op.f(f"ix_outbox_{column}"), "outbox", [column])
