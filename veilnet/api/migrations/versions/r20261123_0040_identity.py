# SPDX-License-Identifier: Apache-2.0
"""Identity providers, sessions of people, client secrets of service accounts; what an API token is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261123_0040"
down_revision = "20261123_0030"


def upgrade() -> None:
    _tokens()
    _providers()
    _secrets()
    _service_accounts()
    op.execute("INSERT INTO counters (name, value) VALUES ('owners', 0)")


def _tokens() -> None:
    op.add_column("api_tokens", sa.Column("kind", sa.String(), nullable=False, server_default="standing"))
    op.add_column("api_tokens", sa.Column("created_by", sa.String(), nullable=True))
    op.add_column("api_tokens", sa.Column("provider_id", sa.String(), nullable=True))
    op.add_column("api_tokens", sa.Column("provider_groups", sa.JSON(), nullable=False, server_default="[]"))
    op.create_index(op.f("ix_api_tokens_created_by"), "api_tokens", ["created_by"])


def _providers() -> None:
    op.create_table(
        "identity_providers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("client_secret", sa.LargeBinary(), nullable=True),
        sa.Column("groups_claim", sa.String(), nullable=False),
        sa.Column("group_grants", sa.JSON(), nullable=False),
        sa.Column("creates_users", sa.Boolean(), nullable=False),
        sa.Column("session_seconds", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_providers")),
        sa.UniqueConstraint("name", name=op.f("uq_identity_providers_name")),
        sa.UniqueConstraint("issuer", name=op.f("uq_identity_providers_issuer")),
    )
    op.create_table(
        "used_id_tokens",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_used_id_tokens")),
    )
    op.create_index(op.f("ix_used_id_tokens_expires_at"), "used_id_tokens", ["expires_at"])


def _secrets() -> None:
    op.create_table(
        "service_account_secrets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("service_account_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.ForeignKeyConstraint(
            ["service_account_id"],
            ["service_accounts.id"],
            name=op.f("fk_service_account_secrets_service_account_id_service_accounts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_account_secrets")),
    )
    op.create_index(
        op.f("ix_service_account_secrets_service_account_id"), "service_account_secrets", ["service_account_id"]
    )


def _service_accounts() -> None:
    """Who it is at an identity provider, for workloads that bring a token from there."""
    op.add_column("service_accounts", sa.Column("issuer", sa.String(), nullable=True))
    op.add_column("service_accounts", sa.Column("subject", sa.String(), nullable=True))
    op.create_index("uq_service_accounts_identity", "service_accounts", ["issuer", "subject"], unique=True)
