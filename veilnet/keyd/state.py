# SPDX-License-Identifier: Apache-2.0
"""States of links, circuits and streams, and every legal transition, as data.

Rules: whatever changes a state goes through `step`; an event that a state does not list is our own bug, raises
LocalError and changes nothing. What a peer may send at the wrong time is checked before `step` and counted instead.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeVar

from veilnet.protocol.errors import LocalError


class Link(Enum):
    HELLO = "hello"
    """Initiator: hellos are out."""
    CONFIRM = "confirm"
    """Initiator: keys are installed, confirm is out, READY has not come."""
    UP = "up"
    DEAD = "dead"


class LinkEvent(Enum):
    REPLIED = "replied"
    READY = "ready"
    FAILED = "failed"


LINK: Final = {
    Link.HELLO: {LinkEvent.REPLIED: Link.CONFIRM, LinkEvent.FAILED: Link.DEAD},
    Link.CONFIRM: {LinkEvent.READY: Link.UP, LinkEvent.FAILED: Link.DEAD},
    Link.UP: {LinkEvent.FAILED: Link.DEAD},
    Link.DEAD: {},
}


class Circuit(Enum):
    """A circuit at its initiator."""

    LINK = "link"
    """Waits for the link to the first node."""
    CREATE = "create"
    EXTEND = "extend"
    HOP = "hop"
    """Handshake in mode hop with the newest node."""
    STREAM = "stream"
    """Handshake in mode stream with the peer Conflux: hellos are out."""
    CONFIRM = "confirm"
    """Stream keys are installed, confirm is out."""
    UP = "up"
    DEAD = "dead"


class CircuitEvent(Enum):
    LINKED = "linked"
    AT_RELAY = "at relay"
    """The newest node is a Guardian that the circuit goes on from."""
    AT_PEER = "at peer"
    SESSION = "session"
    """Handshake in mode hop is done."""
    REPLIED = "replied"
    READY = "ready"
    FAILED = "failed"


_FAILED: Final = {CircuitEvent.FAILED: Circuit.DEAD}
CIRCUIT: Final = {
    Circuit.LINK: {CircuitEvent.LINKED: Circuit.CREATE, **_FAILED},
    # the first Guardian is commanded over link control and needs no hop session (CI2)
    Circuit.CREATE: {CircuitEvent.AT_RELAY: Circuit.EXTEND, CircuitEvent.AT_PEER: Circuit.STREAM, **_FAILED},
    Circuit.EXTEND: {CircuitEvent.AT_RELAY: Circuit.HOP, CircuitEvent.AT_PEER: Circuit.STREAM, **_FAILED},
    Circuit.HOP: {CircuitEvent.SESSION: Circuit.EXTEND, **_FAILED},
    Circuit.STREAM: {CircuitEvent.REPLIED: Circuit.CONFIRM, **_FAILED},
    Circuit.CONFIRM: {CircuitEvent.READY: Circuit.UP, **_FAILED},
    Circuit.UP: _FAILED,
    Circuit.DEAD: {},
}


class Leg(Enum):
    """A circuit at a node that did not start it."""

    LOCAL = "local"
    """The circuit ends here; bodies go to keyd."""
    EXTENDING = "extending"
    SPLICED = "spliced"
    END = "end"
    """Ends here in a stream."""
    DEAD = "dead"


class LegEvent(Enum):
    EXTEND = "extend"
    EXTENDED = "extended"
    REFUSED = "refused"
    STREAM = "stream"
    FAILED = "failed"


LEG: Final = {
    Leg.LOCAL: {LegEvent.EXTEND: Leg.EXTENDING, LegEvent.STREAM: Leg.END, LegEvent.FAILED: Leg.DEAD},
    Leg.EXTENDING: {LegEvent.EXTENDED: Leg.SPLICED, LegEvent.REFUSED: Leg.LOCAL, LegEvent.FAILED: Leg.DEAD},
    Leg.SPLICED: {LegEvent.FAILED: Leg.DEAD},
    Leg.END: {LegEvent.STREAM: Leg.END, LegEvent.FAILED: Leg.DEAD},
    Leg.DEAD: {},
}

S = TypeVar("S", bound=Enum)
Ev = TypeVar("Ev", bound=Enum)


def step(table: dict[S, dict[Ev, S]], state: S, event: Ev) -> S:
    """State after `event`. Raises LocalError if the table has no such transition."""
    try:
        return table[state][event]
    except KeyError:
        raise LocalError(f"{type(state).__name__} {state.value}: {event.value} is not legal") from None
