# SPDX-License-Identifier: Apache-2.0
"""What the Master has of a realm, as far as a fleet file can speak of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from veilnet.client.api import Api
from veilnet.client.paging import every
from veilnet.client.transport import ApiProblem
from veilnet.fleet.model import Edge, edge, whole_dns, whole_policy


@dataclass(frozen=True)
class ActualNode:
    id: str
    name: str
    roles: tuple[str, ...]
    taints: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    pending: bool = False
    expired: bool = False


@dataclass(frozen=True)
class ActualToken:
    """A token that can still enrol the node of its name."""

    id: str
    node: str
    roles: tuple[str, ...]
    taints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Actual:
    """A realm; `nodes` are those that are not revoked."""

    ipv4_range: str
    settings: dict[str, Any]
    policy: dict[str, Any]
    dns: dict[str, Any]
    nodes: dict[str, ActualNode] = field(default_factory=dict)
    tokens: tuple[ActualToken, ...] = ()
    edges: frozenset[Edge] = frozenset()


def read_actual(api: Api, realm: str) -> Actual | None:
    """None if there is no such realm. Raises ApiProblem, Unreachable."""
    try:
        found = api.get_realm(realm)
    except ApiProblem as problem:
        if problem.status == 404:
            return None
        raise
    return Actual(
        ipv4_range=found["ipv4_range"],
        settings=dict(found["settings"]),
        policy=whole_policy(dict(api.get_policy(realm)["document"])),
        dns=whole_dns(dict(api.get_realm_dns(realm))),
        nodes={row["name"]: _node(row) for row in every(api.list_nodes, realm=realm) if row["state"] != "revoked"},
        tokens=tuple(_token(row) for row in every(api.list_enrolment_tokens, realm=realm) if _useful(row)),
        edges=read_edges(api, realm),
    )


def read_edges(api: Api, realm: str) -> frozenset[Edge]:
    return frozenset(edge(row["a"]["name"], row["b"]["name"]) for row in every(api.list_edges, realm))


def _useful(row: dict[str, Any]) -> bool:
    return row["state"] == "usable" and row["node_name"] is not None


def _node(row: dict[str, Any]) -> ActualNode:
    return ActualNode(
        id=row["id"],
        name=row["name"],
        roles=tuple(sorted(row["roles"])),
        taints=tuple(sorted(row["taints"])),
        labels=dict(row["labels"]),
        pending=row["state"] == "pending",
        expired=row["state"] == "expired",
    )


def _token(row: dict[str, Any]) -> ActualToken:
    return ActualToken(row["id"], row["node_name"], tuple(sorted(row["roles"])), tuple(sorted(row["auto_taints"])))
