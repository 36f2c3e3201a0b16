# SPDX-License-Identifier: Apache-2.0
"""What a fault's words mean, checked against the topology before anything is done.

link A-B down | up | blackhole | delay=20ms jitter=1ms loss=5% burst=1%/20% reorder=1% duplicate=1% rate=10mbit mtu=1400
link A->B loss=5%           one direction only; `link A-B plain` takes away what the file or a fault put there
node G1 kill | kill-daemon | freeze | thaw | restart | clock=+1h | disk-full
nat N1 rebind | timeout=30s
master stop | start | lag=200ms
undo
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

from veilnet.lab.journal import LabError
from veilnet.lab.topology import units
from veilnet.lab.topology.model import Burst, Direction, Link, Topology

LinkVerb = Literal["down", "up", "blackhole", "set", "plain"]
NodeVerb = Literal["kill", "kill-daemon", "freeze", "thaw", "restart", "clock", "disk-full"]

LINK_MTU_MIN: Final = 68
"""Bytes of an IPv4 packet that every link must carry (RFC 791, section 3.2)."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    link: Link
    senders: tuple[str, ...]
    """Whose frames: one end or both."""
    verb: LinkVerb
    changes: tuple[tuple[str, Any], ...] = ()
    """Fields of `Direction` with their new values, for verb `set`."""

    def of(self, direction: Direction) -> Direction:
        """The direction with the changes. Raises LabError when they contradict what is there."""
        changed = replace(direction, **dict(self.changes))
        if changed.loss and changed.burst:
            changed = replace(changed, **({"burst": None} if "loss" in dict(self.changes) else {"loss": 0.0}))
        if changed.jitter > changed.delay:
            raise LabError(f"link {self.link.name}: a jitter of {changed.jitter}s needs a delay of as much")
        if changed.reorder and not changed.delay:
            raise LabError(f"link {self.link.name}: reorder needs a delay, which the reordered frames skip")
        return changed


@dataclass(frozen=True, slots=True)
class NodeFault:
    node: str
    verb: NodeVerb
    seconds: float = 0.0
    """Of `clock`: how far off the true time."""


@dataclass(frozen=True, slots=True)
class NatFault:
    node: str
    timeout: float | None = None
    """Seconds; None: rebind."""


@dataclass(frozen=True, slots=True)
class MasterFault:
    verb: Literal["stop", "start", "lag"]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Undo:
    pass


Fault = LinkFault | NodeFault | NatFault | MasterFault | Undo


def read(text: str, topology: Topology) -> Fault:
    """Raises LabError with what was wrong and what there is."""
    kind, *words = text.split() or [""]
    readers: dict[str, Callable[[list[str], Topology], Fault]] = {
        "link": _link,
        "node": _node,
        "nat": _nat,
        "master": _master,
        "undo": _undo,
    }
    if kind not in readers:
        raise LabError(f"fault {text!r}: starts with {', '.join(readers)}")
    return readers[kind](words, topology)


# ---- links -----------------------------------------------------------------------------------------------------


def _link(words: list[str], topology: Topology) -> LinkFault:
    if len(words) < 2:
        raise LabError("fault link: link A-B down|up|blackhole|plain|delay=...|loss=...|mtu=...")
    link, senders = _ends(words[0], topology)
    if words[1] in {"down", "up"} and len(senders) == 1:
        raise LabError(f"fault link {words[0]}: a link goes {words[1]} as a whole; use `blackhole` for one direction")
    if len(words) == 2 and words[1] in {"down", "up", "blackhole", "plain"}:
        return LinkFault(link, senders, words[1])  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _READERS:
            raise LabError(f"fault link: unknown {word!r}; known: {', '.join(['down', 'up', 'blackhole', *_READERS])}")
        try:
            changes |= _READERS[name](value)
        except units.UnitError as error:
            raise LabError(f"fault link: {word!r}: {error}") from error
    return LinkFault(link, senders, "set", tuple(changes.items()))


def _ends(text: str, topology: Topology) -> tuple[Link, tuple[str, ...]]:
    found = re.fullmatch(r"([a-z][a-z0-9]*)(->|-)([a-z][a-z0-9]*)", text)
    if found is None:
        raise LabError(f"fault link {text!r}: A-B, or A->B for one direction")
    one, arrow, other = found.groups()
    try:
        link = topology.link(one, other)
    except KeyError:
        names = ", ".join(link.name for link in topology.every_link)
        raise LabError(f"no link {one}-{other}; links: {names}") from None
    return link, (one,) if arrow == "->" else link.ends


def _burst(value: str) -> dict[str, Any]:
    """`p/r` as percentages."""
    p, _, r = value.partition("/")
    return {"burst": Burst(units.share(p), units.share(r))}


def _queue(value: str) -> dict[str, Any]:
    seconds, frames = units.queue(value)
    return {"queue_seconds": seconds, "queue_frames": frames}


def _mtu(value: str) -> dict[str, Any]:
    if not value.isdigit() or not LINK_MTU_MIN <= int(value) <= 65535:
        raise units.UnitError(f"bytes of an IP packet, {LINK_MTU_MIN} to 65535")
    return {"mtu": int(value)}


_READERS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "delay": lambda value: {"delay": units.seconds(value)},
    "jitter": lambda value: {"jitter": units.seconds(value)},
    "loss": lambda value: {"loss": units.share(value)},
    "burst": _burst,
    "reorder": lambda value: {"reorder": units.share(value)},
    "duplicate": lambda value: {"duplicate": units.share(value)},
    "rate": lambda value: {"rate": units.bits(value)},
    "queue": _queue,
    "mtu": _mtu,
}
assert {"delay", "jitter", "loss", "burst", "reorder", "duplicate", "rate", "mtu"} <= {
    item.name for item in fields(Direction)
}


# ---- nodes, NATs, the Master -----------------------------------------------------------------------------------


def _node(words: list[str], topology: Topology) -> NodeFault:
    known = [node.name for node in topology.members]
    if len(words) != 2 or words[0] not in known:
        raise LabError(f"fault node: node NAME VERB; nodes: {', '.join(known)}; verbs: {', '.join(_NODE_VERBS)}")
    name, verb = words
    if verb.startswith("clock="):
        return NodeFault(name, "clock", _offset(verb.removeprefix("clock=")))
    if verb not in _NODE_VERBS[:-1]:
        raise LabError(f"fault node {name}: unknown {verb!r}; known: {', '.join(_NODE_VERBS)}")
    return NodeFault(name, verb)  # type: ignore[arg-type]


_NODE_VERBS: Final = ("kill", "kill-daemon", "freeze", "thaw", "restart", "disk-full", "clock=+1h")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _offset(text: str) -> float:
    found = re.fullmatch(r"([+-])([0-9]{1,6})([smhd])", text)
    if found is None:
        raise LabError(f"clock={text}: such as +1h, -30s, +400d")
    sign, number, unit = found.groups()
    return (-1 if sign == "-" else 1) * float(number) * _UNITS[unit]


def _nat(words: list[str], topology: Topology) -> NatFault:
    known = [node.name for node in topology.with_role("nat")]
    if len(words) != 2 or words[0] not in known:
        raise LabError(f"fault nat: nat NAME rebind|timeout=30s; NATs: {', '.join(known) or 'none in this topology'}")
    if words[1] == "rebind":
        return NatFault(words[0])
    name, _, value = words[1].partition("=")
    if name != "timeout":
        raise LabError(f"fault nat {words[0]}: unknown {words[1]!r}; known: rebind, timeout=30s")
    return NatFault(words[0], _seconds(words[1], value))


def _master(words: list[str], _topology: Topology) -> MasterFault:
    if words == ["stop"]:
        return MasterFault("stop")
    if words == ["start"]:
        return MasterFault("start")
    name, _, value = (words[0] if len(words) == 1 else "").partition("=")
    if name != "lag":
        raise LabError("fault master: master stop|start|lag=200ms")
    return MasterFault("lag", _seconds(words[0], value))


def _undo(words: list[str], _topology: Topology) -> Undo:
    if words:
        raise LabError("fault undo: takes nothing; it puts everything back as the file says")
    return Undo()


def _seconds(word: str, value: str) -> float:
    try:
        return units.seconds(value)
    except units.UnitError as error:
        raise LabError(f"{word!r}: {error}") from error
