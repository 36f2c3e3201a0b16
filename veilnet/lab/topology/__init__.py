# SPDX-License-Identifier: Apache-2.0
"""The topology file of a lab: `docs/lab.md` says what can stand in it."""

from veilnet.lab.topology.items import TopologyError
from veilnet.lab.topology.model import (
    MANAGEMENT,
    Burst,
    Direction,
    Firewall,
    Link,
    Nat,
    Network,
    Node,
    Topology,
)
from veilnet.lab.topology.parse import BUILTIN, builtin, load, parse, read

__all__ = [
    "BUILTIN",
    "MANAGEMENT",
    "Burst",
    "Direction",
    "Firewall",
    "Link",
    "Nat",
    "Network",
    "Node",
    "Topology",
    "TopologyError",
    "builtin",
    "load",
    "parse",
    "read",
]
