# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from veilnet.api.policies.schemas import Taints
from veilnet.api.schemas import Body, Label, Out
from veilnet.api.times import DAY

Role = Literal["guardian", "conflux"]
TokenState = Literal["usable", "spent", "expired", "revoked"]


class TokenCreate(Body):
    """`usage_limit` null means any number of nodes until the token expires; `node_name` fits one-off tokens only."""

    realm: str
    roles: Annotated[list[Role], Field(min_length=1, max_length=2)]
    node_name: Label | None = None
    usage_limit: Annotated[int, Field(ge=1, le=100_000)] | None = 1
    expires_in: Annotated[int, Field(ge=60, le=365 * DAY)] = DAY
    ephemeral: bool = False
    """Its nodes are deleted when they have been away for the realm's `ephemeral_seconds`."""
    requires_approval: bool = False
    """Nodes wait for `POST /nodes/{id}:approve` before any other node hears of them."""
    auto_taints: Taints = Field(default_factory=list)
    """Granted to each node that it enrols."""
    allowed_cidrs: Annotated[list[IPv4Network | IPv6Network], Field(max_length=64)] = Field(default_factory=list)
    """Addresses from which it may be used; empty: any."""

    @model_validator(mode="after")
    def _name_fits_one(self) -> Self:
        if self.node_name is not None and self.usage_limit != 1:
            raise ValueError("node_name needs usage_limit 1: a name belongs to one node")
        return self


class TokenOut(Out):
    id: str
    realm_id: str
    roles: list[Role]
    node_name: str | None
    usage_limit: int | None
    used: int
    state: TokenState
    ephemeral: bool
    requires_approval: bool
    auto_taints: list[str]
    allowed_cidrs: list[str]
    expires_at: datetime
    created_at: datetime
    revoked_at: datetime | None


class TokenCreated(TokenOut):
    """`token` is shown this once; the Master keeps a hash of its secret."""

    token: str
