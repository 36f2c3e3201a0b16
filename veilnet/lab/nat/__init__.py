# SPDX-License-Identifier: Apache-2.0
"""NATs and firewalls of the lab; docs/lab-nat.md."""

from veilnet.lab.nat.firewall import block
from veilnet.lab.nat.kinds import CGNAT, KINDS, Dependence, Firewall, NatKind, Ports
from veilnet.lab.nat.translator import Entry, apply, mappings, rebind, remove, set_timeout, settings, statistics

__all__ = [
    "CGNAT", "KINDS", "Dependence", "Entry", "Firewall", "NatKind", "Ports", "apply", "block", "mappings", "rebind",
    "remove", "set_timeout", "settings", "statistics",
]  # fmt: skip
