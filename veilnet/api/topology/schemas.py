# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from veilnet.api.schemas import Body, Out

NodeRef = Annotated[str, Field(min_length=1, max_length=64)]


class EdgeCreate(Body):
    """Two nodes of the realm, by name or id."""

    a: NodeRef
    b: NodeRef


class TopologyReplace(Body):
    edges: Annotated[list[EdgeCreate], Field(max_length=10_000)]


class EdgeNode(Out):
    id: str
    name: str


class EdgeOut(Out):
    id: str
    a: EdgeNode
    b: EdgeNode
    created_at: datetime


class TopologyChange(Out):
    """What a replacement did."""

    added: int
    removed: int
