# SPDX-License-Identifier: Apache-2.0
"""One fault from its words to its effect."""

from __future__ import annotations

from veilnet.lab.faults import links, master, nats, nodes, state
from veilnet.lab.faults.undo import undo
from veilnet.lab.faults.words import LinkFault, MasterFault, NatFault, NodeFault, Undo, read
from veilnet.lab.fleet import Fleet


def fault(fleet: Fleet, text: str) -> None:
    """Raises LabError; a fault that was refused changes nothing and is not listed."""
    lab = fleet.lab
    wanted = read(text, lab.topology)
    if isinstance(wanted, Undo):
        undo(fleet)
        return
    _check(fleet, wanted)
    with state.locked(lab, "list"):
        now = state.current(lab)
        now.take(wanted)  # raises for what contradicts
        state.add(lab, text)
    if isinstance(wanted, LinkFault):
        with state.locked(lab, "links"):
            links.apply(lab, state.current(lab), wanted.link)
    elif isinstance(wanted, NodeFault):
        with state.locked(lab, wanted.node):
            nodes.apply(fleet, state.current(lab), wanted)
    elif isinstance(wanted, NatFault):
        nats.apply(lab, wanted)
    else:
        with state.locked(lab, "master"):
            master.apply(fleet, wanted)


def _check(fleet: Fleet, wanted: LinkFault | NodeFault | NatFault | MasterFault) -> None:
    if isinstance(wanted, LinkFault):
        links.check(fleet.lab, wanted.link)
    elif isinstance(wanted, NodeFault):
        nodes.check(fleet, wanted)
    elif isinstance(wanted, MasterFault):
        master.check(fleet)
