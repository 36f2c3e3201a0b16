# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from veilnet.api.access.schemas import GrantBody, GrantOut
from veilnet.api.accounts.schemas import AccountName
from veilnet.api.schemas import Body, Out
from veilnet.api.times import DAY

ProviderState = Literal["enabled", "disabled"]
ClientId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]
ClientSecret = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,512}$")]
Claim = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
SessionSeconds = Annotated[int, Field(ge=300, le=7 * DAY)]
CodeVerifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{43,128}$")]
LoopbackUri = Annotated[str, StringConstraints(pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}/callback$")]


class GroupGrants(Body):
    """Whoever's ID token names `group` has these roles while the session lasts."""

    group: Annotated[str, Field(min_length=1, max_length=200)]
    grants: Annotated[list[GrantBody], Field(min_length=1, max_length=20)]


class GroupGrantsOut(Out):
    group: str
    grants: list[GrantOut]


GroupMap = Annotated[list[GroupGrants], Field(max_length=200)]


class IdentityProviderCreate(Body):
    """`client_secret` is for providers that give installed applications one; it never leaves the Master.

    `creates_users`: whoever signs in there becomes a user, without roles of their own; for providers all of
    whose people are yours.
    """

    name: AccountName
    issuer: Annotated[str, Field(max_length=512)]
    client_id: ClientId
    client_secret: ClientSecret | None = None
    groups_claim: Claim = "groups"
    group_grants: GroupMap = Field(default_factory=list)
    creates_users: bool = False
    session_seconds: SessionSeconds = DAY // 2
    state: ProviderState = "enabled"


class IdentityProviderPatch(Body):
    """The issuer can't be changed: users are known by it. A `client_secret` that is not sent stays."""

    name: AccountName | None = None
    client_id: ClientId | None = None
    client_secret: ClientSecret | None = None
    groups_claim: Claim | None = None
    group_grants: GroupMap | None = None
    creates_users: bool | None = None
    session_seconds: SessionSeconds | None = None
    state: ProviderState | None = None


class IdentityProviderOut(Out):
    """`confidential`: it has a client secret, so the Master redeems the codes of its logins."""

    id: str
    name: str
    issuer: str
    client_id: str
    confidential: bool
    groups_claim: str
    group_grants: list[GroupGrantsOut]
    creates_users: bool
    session_seconds: int
    state: ProviderState
    created_at: datetime


class LoginProvider(Out):
    """What `veilnet login` needs to send a person there."""

    id: str
    name: str
    issuer: str
    client_id: str
    confidential: bool


class LoginOptions(Out):
    providers: list[LoginProvider]


class SessionCreate(Body):
    """Either the ID token, or what redeems one at a provider for which the Master has the client secret."""

    provider_id: Annotated[str, Field(max_length=64)]
    id_token: Annotated[str, Field(min_length=1, max_length=16_384)] | None = None
    code: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    code_verifier: CodeVerifier | None = None
    redirect_uri: LoopbackUri | None = None
    nonce: Annotated[str, Field(min_length=16, max_length=128)] | None = None


class SessionCreated(Out):
    """`token` is shown this once."""

    id: str
    user_id: str
    user_name: str
    expires_at: datetime
    token: str
