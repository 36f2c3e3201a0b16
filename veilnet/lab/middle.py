# SPDX-License-Identifier: Apache-2.0
"""What stands between VeilNet's nodes: emulated wires, NATs and firewalls of a lab, as its topology asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veilnet.lab.journal import LabError
from veilnet.lab.topology import Topology

if TYPE_CHECKING:
    from veilnet.lab.lab import Lab


def check(topology: Topology) -> None:
    """Refuse, before anything is made, what can't be had. Raises LabError."""
    for link in topology.wired:
        if link.emulated:
            raise LabError(f"{link.name}: no wire emulator yet")
    if topology.with_role("nat"):
        raise LabError("no NAT yet")


def start(lab: Lab, topology: Topology) -> None:
    """Wires first, then what translates and refuses."""


def remove_nat(namespace: str) -> None:
    """What a translator has outside its namespace. Idempotent."""
