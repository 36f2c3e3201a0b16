# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

from veilnet.api.schemas import Body, Out

NodeState = Literal["pending", "active", "expired", "revoked"]
"""`pending`: enrolled with a token that asks for approval, and unknown to every other node. `expired`: out until it is
renewed or enrols again."""
NodeRole = Literal["guardian", "conflux"]


class GuardianFilter(BaseModel):
    """`q` is a part of the name; `realm` an id or a name."""

    realm: Annotated[str | None, Field(max_length=64)] = None
    state: NodeState | None = None
    taint: Annotated[str | None, Field(max_length=64, pattern=r"^[a-z0-9._-]+$")] = None
    draining: bool | None = None
    q: Annotated[str | None, Field(max_length=64)] = None


class NodeFilter(GuardianFilter):
    role: NodeRole | None = None


class NodeOut(Out):
    id: str
    realm_id: str
    node_id: str
    name: str
    roles: list[str]
    taints: list[str]
    labels: dict[str, str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    state: NodeState
    draining: bool
    ephemeral: bool
    connected: bool
    certificate_expires_at: datetime
    descriptor_expires_at: datetime
    created_at: datetime
    last_seen_at: datetime | None
    approved_at: datetime | None
    expires_at: datetime | None
    expired_at: datetime | None
    drained_at: datetime | None
    revoked_at: datetime | None


LabelKey = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=128)]


class NodeConfig(Body):
    """What an administrator may change of a node. Labels are notes of the operators; nodes do not see them."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = Field(default_factory=dict)


class NodePatch(Body):
    """A label of null goes."""

    labels: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=64)] | None = None


class NodeExpiry(Body):
    """null, or a time that has passed: at once."""

    expires_at: AwareDatetime | None = None


class DescriptorOut(Out):
    serial: int
    expires_at: datetime
