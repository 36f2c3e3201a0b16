# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from veilnet.api.schemas import Out

NodeState = Literal["active", "revoked"]
NodeRole = Literal["guardian", "conflux"]


class NodeFilter(BaseModel):
    """`q` is a part of the name; `realm` an id or a name."""

    realm: Annotated[str | None, Field(max_length=64)] = None
    role: NodeRole | None = None
    state: NodeState | None = None
    q: Annotated[str | None, Field(max_length=64)] = None


class NodeOut(Out):
    id: str
    realm_id: str
    node_id: str
    name: str
    roles: list[str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    state: NodeState
    connected: bool
    certificate_expires_at: datetime
    descriptor_expires_at: datetime
    created_at: datetime
    last_seen_at: datetime | None
    revoked_at: datetime | None


class DescriptorOut(Out):
    serial: int
    expires_at: datetime
