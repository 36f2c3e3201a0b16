# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity


class User(VersionedEntity):
    """A person. Signs in at an identity provider, which knows it as (issuer, subject)."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_identity", "issuer", "subject", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    issuer: Mapped[str | None]
    subject: Mapped[str | None]
    grants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    suspended_at: Mapped[int | None]
    last_login_at: Mapped[int | None]
    created_at: Mapped[int]


class Group(VersionedEntity):
    """Its grants are its members' too."""

    __tablename__ = "groups"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    grants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[int]


class GroupMember(VersionedEntity):
    __tablename__ = "group_members"
    __table_args__ = (UniqueConstraint("group_id", "user_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[int]


class ServiceAccount(VersionedEntity):
    """A program. Calls with API tokens that it owns, or gets short-lived ones by a secret or a workload's ID token."""

    __tablename__ = "service_accounts"
    __table_args__ = (Index("uq_service_accounts_identity", "issuer", "subject", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    issuer: Mapped[str | None]
    subject: Mapped[str | None]
    grants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    suspended_at: Mapped[int | None]
    created_at: Mapped[int]
