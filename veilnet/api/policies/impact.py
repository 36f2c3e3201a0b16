# SPDX-License-Identifier: Apache-2.0
"""What another policy would change for a fleet, without looking at every pair.

Nodes that no selector can tell apart are one class; decisions are made once a pair of classes. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, islice, product
from typing import Final

from veilnet.protocol.policy import Decision, Policy, Subject, decide, profile, profiles_talk

SHOWN_MAX: Final = 100
Named = tuple[str, str, tuple[str, ...]]
"""Two nodes' names, and the reasons of the new decision."""


@dataclass
class Impact:
    gained_total: int = 0
    lost_total: int = 0
    gained: list[Named] = field(default_factory=list)
    lost: list[Named] = field(default_factory=list)


def impact(old: Policy, new: Policy, nodes: Iterable[Subject]) -> Impact:
    found = Impact()
    classes = _classes(nodes, _names(old) | _names(new))
    profiles = [(profile(old, one[0]), profile(new, one[0])) for one in classes]
    for (one, mine), (other, its) in combinations_with_replacement(zip(classes, profiles, strict=True), 2):
        before, now = profiles_talk(old, mine[0], its[0]), profiles_talk(new, mine[1], its[1])
        if before == now:
            continue
        after = decide(new, one[0], other[0])
        same = one is other
        count = len(one) * (len(one) - 1) // 2 if same else len(one) * len(other)
        if after.allowed:
            found.gained_total += count
            _show(found.gained, one, other, after)
        else:
            found.lost_total += count
            _show(found.lost, one, other, after)
    return found


def _show(shown: list[Named], one: list[Subject], other: list[Subject], decision: Decision) -> None:
    for a, b in islice(_pairs(one, other), SHOWN_MAX - len(shown)):
        shown.append((a.name, b.name, decision.reasons))


def _pairs(one: list[Subject], other: list[Subject]) -> Iterator[tuple[Subject, Subject]]:
    if one is not other:
        yield from product(one, other)
        return
    yield from ((a, b) for place, a in enumerate(one) for b in one[place + 1 :])


def _classes(nodes: Iterable[Subject], names: frozenset[str]) -> list[list[Subject]]:
    found: defaultdict[object, list[Subject]] = defaultdict(list)
    for node in nodes:
        found[node.name if node.name in names else "", node.taints, node.worn].append(node)
    return list(found.values())


def _names(policy: Policy) -> frozenset[str]:
    """Nodes that the policy speaks of by name."""
    return frozenset(name for _, one, other in policy.sides for side in (one, other) for name in side.names)
