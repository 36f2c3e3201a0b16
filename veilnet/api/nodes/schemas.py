# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, model_validator

from veilnet.api.policies.schemas import Taints
from veilnet.api.schemas import Body, Out, Problem

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


def _in_reach(value: datetime) -> datetime:
    if value.year > 2500:  # later ones do not come back as they were sent: pydantic reads larger numbers as ms
        raise ValueError("too far away")
    return value


Expiry = Annotated[AwareDatetime, AfterValidator(_in_reach)]


class NodeExpiry(Body):
    """null, or a time that has passed: at once."""

    expires_at: Expiry | None = None


NodeAction = Literal["approve", "revoke", "expire", "renew", "drain", "undrain", "delete", "taints", "labels"]
BATCH_MAX = 500


class NodeChange(Body):
    """One change of a batch. `taints` replaces them, `labels` is a merge patch, `expires_at` is of `expire`; `if_match`
    is an ETag of the node, without one it is changed whatever it is."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    action: NodeAction
    taints: Taints | None = None
    labels: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=64)] | None = None
    expires_at: Expiry | None = None
    if_match: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> Self:
        for name, action in (("taints", "taints"), ("labels", "labels"), ("expires_at", "expire")):
            given = getattr(self, name) is not None
            if given and self.action != action:
                raise ValueError(f"{name} belongs to the action {action}")
            if not given and self.action == action and action != "expire":
                raise ValueError(f"the action {action} needs {name}")
        return self


class NodeBatch(Body):
    """Carried out in this order; a node may stand in it more than once."""

    items: Annotated[list[NodeChange], Field(min_length=1, max_length=BATCH_MAX)]


class NodeChanged(Out):
    """What became of one item: `status` as a request of its own would have had it, with `node` or `problem`."""

    id: str
    action: NodeAction
    status: int
    node: NodeOut | None = None
    problem: Problem | None = None


class NodeBatchOut(Out):
    """`items` in the order of the request."""

    items: list[NodeChanged]
    succeeded: int
    failed: int
    dry_run: bool


class DescriptorOut(Out):
    serial: int
    expires_at: datetime
