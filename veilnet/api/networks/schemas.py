# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from veilnet.api.schemas import Body, Out
from veilnet.protocol.documents import NETWORKS_MAX
from veilnet.protocol.networks import IpNetwork

NetworkState = Literal["proposed", "approved", "rejected"]


class NetworkFilter(BaseModel):
    """`realm` is an id or a name, `node` an id."""

    realm: Annotated[str | None, Field(max_length=64)] = None
    node: Annotated[str | None, Field(max_length=64)] = None
    state: NetworkState | None = None


class NetworkCreate(Body):
    """Approved at once: who may say this may approve."""

    node_id: Annotated[str, Field(min_length=1, max_length=64)]
    prefix: IpNetwork
    accept_conflicts: bool = False


class NetworkApproval(Body):
    accept_conflicts: bool = False
    """Approve it though it overlaps with another node's; the longest prefix wins."""


class NetworkOut(Out):
    """`proposed`: by the node itself, and withdrawn with that. `conflicts`: ids of networks of other nodes that overlap
    with it and are not rejected."""

    id: str
    realm_id: str
    node_id: str
    prefix: str
    state: NetworkState
    proposed: bool
    conflicts: list[str]
    decided_at: datetime | None
    created_at: datetime


class NodeNetworks(Body):
    """All that the node stands as a gateway for; what it proposed before and is not here is withdrawn."""

    prefixes: Annotated[list[IpNetwork], Field(max_length=NETWORKS_MAX)]


class NodeNetworksOut(Out):
    """By prefix, what became of it."""

    networks: dict[str, NetworkState]
