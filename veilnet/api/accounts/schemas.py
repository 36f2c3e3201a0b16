# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from veilnet.api.access.schemas import GrantBody, GrantOut
from veilnet.api.schemas import Body, Out

AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,127}$")]
Description = Annotated[str, Field(max_length=512)]
Grants = Annotated[list[GrantBody], Field(max_length=100)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")]
Issuer = Annotated[str | None, Field(min_length=1, max_length=512)]
Subject = Annotated[str | None, Field(min_length=1, max_length=255)]
AccountState = Literal["active", "suspended"]


class UserCreate(Body):
    """`issuer` and `subject` name the person at an identity provider; without them nobody can sign in as this user."""

    name: AccountName
    email: Email | None = None
    issuer: Issuer = None
    subject: Subject = None
    grants: Grants = Field(default_factory=list)
    state: AccountState = "active"


class UserPatch(Body):
    name: AccountName | None = None
    email: Email | None = None
    issuer: Issuer = None
    subject: Subject = None
    grants: Grants | None = None
    state: AccountState | None = None


class UserOut(Out):
    id: str
    name: str
    email: str | None
    issuer: str | None
    subject: str | None
    grants: list[GrantOut]
    state: AccountState
    created_at: datetime
    last_login_at: datetime | None


class GroupCreate(Body):
    name: AccountName
    description: Description = ""
    grants: Grants = Field(default_factory=list)


class GroupPatch(Body):
    name: AccountName | None = None
    description: Description | None = None
    grants: Grants | None = None


class GroupOut(Out):
    id: str
    name: str
    description: str
    grants: list[GrantOut]
    created_at: datetime


class MemberCreate(Body):
    user_id: Annotated[str, Field(max_length=64)]


class MemberOut(Out):
    id: str
    group_id: str
    user_id: str
    created_at: datetime


class ServiceAccountCreate(Body):
    """`issuer` and `subject` name a workload at an identity provider, whose ID tokens buy it access tokens."""

    name: AccountName
    description: Description = ""
    issuer: Issuer = None
    subject: Subject = None
    grants: Grants = Field(default_factory=list)
    state: AccountState = "active"


class ServiceAccountPatch(Body):
    name: AccountName | None = None
    description: Description | None = None
    issuer: Issuer = None
    subject: Subject = None
    grants: Grants | None = None
    state: AccountState | None = None


class ServiceAccountOut(Out):
    id: str
    name: str
    description: str
    issuer: str | None
    subject: str | None
    grants: list[GrantOut]
    state: AccountState
    created_at: datetime
