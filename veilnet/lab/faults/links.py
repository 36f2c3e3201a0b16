# SPDX-License-Identifier: Apache-2.0
"""Faults of links: carriers by the wire's ports, everything else by the emulator between them."""

from __future__ import annotations

from veilnet.lab import net, wire
from veilnet.lab.faults.state import State
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.middle import wire_spec
from veilnet.lab.topology.model import Link, Topology


def check(lab: Lab, link: Link) -> None:
    """Refuse a link that has nothing in between. Raises LabError."""
    if not link.emulated:
        raise LabError(
            f"link {link.name} is a bare veth pair, which can't misbehave; make the lab with: "
            f"lab up {lab.topology.name} --wires"
        )


def apply(lab: Lab, state: State, link: Link) -> None:
    """Make a link what `state` says, whatever it is. Raises LabError."""
    spec, wanted = wire_spec(lab, link), state.links[link.name]
    for index in (0, 1):
        wire.change(spec, index, wanted.directions[index], blackhole=wanted.blackhole[index])
    carriers(lab, state, [link])


def carriers(lab: Lab, state: State, links: list[Link]) -> None:
    for link in links:
        way = "up" if state.carrier(link) else "down"
        net.ip(lab.namespace(link.wire), *(f"link set dev {end} {way}" for end in link.ends))


def settings(lab: Lab, topology: Topology) -> dict[str, list[dict[str, int]]]:
    """What each wire's emulator does now, by link and direction."""
    wires = [link for link in topology.wired if link.emulated]
    if not wires:
        return {}
    with wire.Control(lab.control("wire")) as control:
        return {link.name: [control.settings(link.name, index) for index in (0, 1)] for link in wires}
