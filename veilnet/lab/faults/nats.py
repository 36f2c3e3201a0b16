# SPDX-License-Identifier: Apache-2.0
"""Faults of NATs: a lost table, another timeout."""

from __future__ import annotations

from veilnet.lab import middle, nat
from veilnet.lab.faults.words import NatFault
from veilnet.lab.lab import Lab


def apply(lab: Lab, fault: NatFault) -> None:
    """Raises LabError."""
    if fault.timeout is None:
        nat.rebind(lab.namespace(fault.node))
    else:
        nat.set_timeout(lab.namespace(fault.node), udp=fault.timeout)


def undo(lab: Lab) -> None:
    for node in lab.topology.with_role("nat"):
        middle.apply_nat(lab, lab.topology, node)


def settings(lab: Lab) -> dict[str, dict[str, int]]:
    return {node.name: nat.settings(lab.namespace(node.name)) for node in lab.topology.with_role("nat")}
