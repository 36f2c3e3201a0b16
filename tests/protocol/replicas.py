# SPDX-License-Identifier: Apache-2.0
"""A realm, its nodes and replicas of it: what the tests of replicas share."""

from __future__ import annotations

from typing import Any

from tests.protocol.realm import NOW, Node, Realm
from veilnet.protocol.replica import Replica

REALM = Realm()
G1, G2, G3 = (Node(REALM, number) for number in (1, 2, 3))
C1, C2 = Node(REALM, 4, "conflux"), Node(REALM, 5, "conflux")
DEV, EU = Node(REALM, 6, "conflux", "dev"), Node(REALM, 7, "conflux", "eu")
STRANGERS = Realm()


def replica(own: Node = G1, *records: dict[str, Any], head: dict[str, str] | None = None) -> Replica:
    found = Replica(REALM.trust, own.id)
    found.take_head(head or REALM.head(), NOW)
    for record in records:
        found.take_record(record, NOW)
    return found


def names(found: Replica, now: int = NOW) -> set[str]:
    return {node.name for node in found.directory(now).nodes.values()}
