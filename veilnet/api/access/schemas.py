# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from veilnet.api.platform.roles import Role
from veilnet.api.schemas import Body, Out
from veilnet.api.times import DAY

Scope = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}:(create|read|update|delete)$")]
TokenKind = Literal["standing", "session", "access"]
TokenName = Annotated[str, Field(min_length=1, max_length=128)]


class GrantBody(Body):
    """A role in one realm (its id), or everywhere (null)."""

    role: Role
    realm_id: Annotated[str | None, Field(max_length=64)] = None


class GrantOut(Out):
    role: Role
    realm_id: str | None


class ApiTokenCreate(Body):
    """`owner_id` is a user or a service account, whose own grants bound the token; null is whoever asks for it, if they
    are a user or a service account. `scopes` null does not narrow it."""

    name: TokenName
    expires_in: Annotated[int, Field(ge=60, le=365 * DAY)] = 90 * DAY
    grants: Annotated[list[GrantBody], Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(max_length=100)] | None = None
    owner_id: Annotated[str | None, Field(max_length=64)] = None


class ApiTokenPatch(Body):
    name: TokenName | None = None


class ApiTokenOut(Out):
    id: str
    name: str
    kind: TokenKind
    owner_id: str | None
    created_by: str | None
    grants: list[GrantOut]
    scopes: list[str] | None
    state: Literal["usable", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiTokenCreated(ApiTokenOut):
    """`token` is shown this once; the Master keeps an Argon2id hash of its secret."""

    token: str


class WhoAmI(Out):
    """The caller and what it may do."""

    kind: str
    id: str
    name: str
    token_id: str | None
    scopes: dict[str, list[str] | None]
    """Scope name → realms in which it holds, or null for everywhere."""
