# SPDX-License-Identifier: Apache-2.0
"""Faults of links: carriers by the wire's ports, everything else by the emulator between them."""

from __future__ import annotations

from veilnet.lab import middle, net
from veilnet.lab.faults.state import State
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology.model import Link


def check(lab: Lab, link: Link) -> None:
    """Refuse a link that has nothing in between. Raises LabError."""
    if not link.emulated:
        raise LabError(
            f"link {link.name} is a bare veth pair, which can't misbehave; make the lab with: "
            f"lab up {lab.topology.name} --wires"
        )


def apply(lab: Lab, state: State, link: Link) -> None:
    """Make a link what `state` says, whatever it is. Raises LabError."""
    wanted = state.links[link.name]
    for index in (0, 1):
        middle.change(lab, link, index, wanted.directions[index], blackhole=wanted.blackhole[index])
    carriers(lab, state, [link])


def carriers(lab: Lab, state: State, links: list[Link]) -> None:
    for link in links:
        way = "up" if state.carrier(link) else "down"
        net.ip(lab.namespace(link.wire), *(f"link set dev {end} {way}" for end in link.ends))
