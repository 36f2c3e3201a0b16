# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from veilnet.api.schemas import Body, Label, Out
from veilnet.protocol.policy import GROUPS_MAX, RULES_MAX, SELECTORS_MAX, TAINTS_MAX, TESTS_MAX

Taint = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Selector = Annotated[str, Field(pattern=r"^(\*|untainted|(taint|node|group):[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)$")]
"""`*`, `untainted`, `taint:NAME`, `node:NAME`, `group:NAME`."""
Selectors = Annotated[list[Selector], Field(min_length=1, max_length=SELECTORS_MAX)]
Taints = Annotated[list[Taint], Field(max_length=TAINTS_MAX)]


class PolicyRule(Body):
    """Speaks of each pair with one node on either side, in either order."""

    name: Label
    effect: Literal["allow", "deny"]
    between: Selectors
    and_: Selectors = Field(alias="and")


class Hypothetical(Body):
    """A node that need not exist. `worn` null: all of its taints."""

    name: Label | Literal[""] = ""
    taints: Taints = Field(default_factory=list)
    worn: Taints | None = None


class PolicyTest(Body):
    """A side is the name of a node, or a hypothetical one."""

    a: Label | Hypothetical
    b: Label | Hypothetical
    allowed: bool


class PolicyDocument(Body):
    """docs/policy.md."""

    default: Literal["taints", "none"] = "taints"
    groups: dict[Label, Selectors] = Field(default_factory=dict, max_length=GROUPS_MAX)
    rules: list[PolicyRule] = Field(default_factory=list, max_length=RULES_MAX)
    tests: list[PolicyTest] = Field(default_factory=list, max_length=TESTS_MAX)


class PolicyOut(Out):
    id: str
    realm_id: str
    document: PolicyDocument
    created_at: datetime
    updated_at: datetime


class Pair(Out):
    a: str
    b: str
    reasons: list[str]


class TestFailure(Out):
    index: int
    detail: str


class PolicyCheck(Out):
    """What a document would change. `gained` and `lost` name some of the pairs, the totals count all."""

    failures: list[TestFailure]
    gained_total: int
    lost_total: int
    gained: list[Pair]
    lost: list[Pair]


class Explained(Out):
    name: str
    taints: list[str]
    worn: list[str]


class PolicyExplanation(Out):
    allowed: bool
    reasons: list[str]
    neighbours: bool
    """An edge joins them."""
    a: Explained
    b: Explained


class NodeTaints(Body):
    """Granted by the realm and signed into the node's certificate."""

    taints: Taints
