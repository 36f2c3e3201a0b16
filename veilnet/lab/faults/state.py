# SPDX-License-Identifier: Apache-2.0
"""The faults in force: a list of commands in the lab's directory, and what they make of links and nodes.

`<lab>/faults` holds a command a line, written before it is carried out, so that a killed command is known all the same.
What a link has to be follows from the file and the whole list.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from veilnet.lab.faults.words import Fault, LinkFault, NodeFault, read
from veilnet.lab.lab import Lab
from veilnet.lab.topology.model import Direction, Link, Topology

_LIST: Final = "faults"


@dataclass
class LinkState:
    """What a link has to be. `directions` and `blackhole` in the order of its ends."""

    directions: list[Direction]
    blackhole: list[bool] = field(default_factory=lambda: [False, False])
    down: bool = False


@dataclass
class State:
    links: dict[str, LinkState]
    """By the link's name."""
    off: set[str] = field(default_factory=set)
    """Nodes without power."""
    clocks: dict[str, float] = field(default_factory=dict)
    """Seconds off the true time, of nodes whose clock was set."""

    @classmethod
    def of(cls, topology: Topology, faults: Sequence[Fault]) -> State:
        state = cls({link.name: LinkState(list(link.directions)) for link in topology.every_link})
        for fault in faults:
            state.take(fault)
        return state

    def take(self, fault: Fault) -> None:
        if isinstance(fault, LinkFault):
            self._take_link(fault)
        elif isinstance(fault, NodeFault):
            self._take_node(fault)

    def carrier(self, link: Link) -> bool:
        """Whether the link's ports are to be up."""
        return not self.links[link.name].down and not self.off & set(link.ends)

    def _take_link(self, fault: LinkFault) -> None:
        state = self.links[fault.link.name]
        if fault.verb in {"down", "up"}:
            state.down = fault.verb == "down"
            return
        for sender in fault.senders:
            index = fault.link.ends.index(sender)
            if fault.verb == "blackhole":
                state.blackhole[index] = True
            elif fault.verb == "plain":
                state.blackhole[index], state.directions[index] = False, Direction()
            else:
                state.directions[index] = fault.of(state.directions[index])

    def _take_node(self, fault: NodeFault) -> None:
        if fault.verb == "kill":
            self.off.add(fault.node)
        elif fault.verb == "restart":
            self.off.discard(fault.node)
        elif fault.verb == "clock":
            self.clocks[fault.node] = fault.seconds


def texts(lab: Lab) -> list[str]:
    """Commands in force, in order."""
    try:
        return (lab.directory / _LIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def current(lab: Lab) -> State:
    return State.of(lab.topology, [read(text, lab.topology) for text in texts(lab)])


def add(lab: Lab, text: str) -> None:
    with (lab.directory / _LIST).open("a", encoding="utf-8") as file:
        file.write(" ".join(text.split()) + "\n")


def clear(lab: Lab) -> None:
    (lab.directory / _LIST).unlink(missing_ok=True)


@contextmanager
def locked(lab: Lab, what: str) -> Iterator[None]:
    """One command at a time changes `what`: a node that restarts for seconds holds up no link."""
    descriptor = os.open(lab.directory / f"lock-{what}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
