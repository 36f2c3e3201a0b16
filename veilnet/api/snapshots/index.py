# SPDX-License-Identifier: Apache-2.0
"""Who is told of whom in one realm, without looking at everybody: nodes by taint, name, role and edge.

Pure. `sight` and `audience` agree with `sees` for every pair (tested against it); what they cost grows with their
answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from veilnet.protocol.policy import OPEN, Policy, Profile, Side, profile, profiles_talk, reach


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about a node's visibility. `row_id` is its row's, `version` that of its record."""

    node_id: bytes
    row_id: str
    name: str
    roles: frozenset[str]
    taints: frozenset[str]
    worn: frozenset[str]
    edges: frozenset[bytes]
    version: int = 0
    facts_version: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.node_id.hex(),
            "name": self.name,
            "roles": sorted(self.roles),
            "taints": sorted(self.taints),
            "worn": sorted(self.worn),
            "edges": sorted(edge.hex() for edge in self.edges),
        }

    @classmethod
    def of(cls, row_id: str, value: dict[str, Any], version: int, facts_version: int) -> Self:
        return cls(
            bytes.fromhex(value["node"]),
            row_id,
            value["name"],
            frozenset(value["roles"]),
            frozenset(value["taints"]),
            frozenset(value["worn"]),
            frozenset(bytes.fromhex(edge) for edge in value["edges"]),
            version,
            facts_version,
        )


class DirectoryIndex:
    def __init__(self, policy: Policy = OPEN) -> None:
        self._policy = policy
        self._profiles: dict[bytes, Profile] = {}
        self.facts: dict[bytes, Facts] = {}
        self._guardians: set[bytes] = set()
        self._confluxes: set[bytes] = set()
        self._untainted: set[bytes] = set()
        self._worn: defaultdict[str, set[bytes]] = defaultdict(set)
        self._named: defaultdict[str, set[bytes]] = defaultdict(set)
        self._listed_by: defaultdict[bytes, set[bytes]] = defaultdict(set)

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._profiles.clear()

    def put(self, facts: Facts) -> None:
        self.remove(facts.node_id)
        self.facts[facts.node_id] = facts
        for found in self._places(facts):
            found.add(facts.node_id)

    def remove(self, node_id: bytes) -> None:
        facts = self.facts.pop(node_id, None)
        self._profiles.pop(node_id, None)
        if facts is not None:
            for found in self._places(facts):
                found.discard(node_id)

    def _places(self, facts: Facts) -> Iterator[set[bytes]]:
        """Every set that this node stands in."""
        yield self._named[facts.name]
        if "guardian" in facts.roles:
            yield self._guardians
        if "conflux" in facts.roles:
            yield self._confluxes
        if not facts.taints:
            yield self._untainted
        for taint in facts.worn:
            yield self._worn[taint]
        for other in facts.edges:
            yield self._listed_by[other]

    def sight(self, node_id: bytes) -> set[bytes]:
        """Nodes that this one is told of."""
        viewer = self.facts.get(node_id)
        if viewer is None:
            return set()
        return self._guardians | self._near(viewer) | self._talking(viewer)

    def audience(self, node_id: bytes) -> set[bytes]:
        """Nodes that are told of this one."""
        node = self.facts.get(node_id)
        if node is None:
            return set()
        return set(self.facts) if node_id in self._guardians else self._near(node) | self._talking(node)

    def would_see(self, node_id: bytes, other: Facts) -> bool:
        """Whether this node is told of one with these facts, which need not be in the index."""
        viewer = self.facts[node_id]
        if "guardian" in other.roles or node_id in other.edges or other.node_id in viewer.edges:
            return True
        both = "conflux" in viewer.roles and "conflux" in other.roles
        return both and profiles_talk(self._policy, self._profile(node_id), profile(self._policy, other))

    def _near(self, facts: Facts) -> set[bytes]:
        """The node itself and its neighbours."""
        near = {facts.node_id} | facts.edges | self._listed_by.get(facts.node_id, set())
        return near & self.facts.keys()

    def _talking(self, facts: Facts) -> set[bytes]:
        if "conflux" not in facts.roles:
            return set()
        own, policy = self._profile(facts.node_id), self._policy
        meant = self._meant(reach(policy, facts))
        return {other for other in meant if profiles_talk(policy, own, self._profile(other))}

    def _profile(self, node_id: bytes) -> Profile:
        found = self._profiles.get(node_id)
        if found is None:
            found = self._profiles[node_id] = profile(self._policy, self.facts[node_id])
        return found

    def _meant(self, side: Side) -> set[bytes]:
        if side.everyone:
            return set(self._confluxes)
        found: set[bytes] = set(self._untainted) if side.untainted else set()
        for taint in side.taints:
            found |= self._worn.get(taint, set())
        for name in side.names:
            found |= self._named.get(name, set())
        return found & self._confluxes
