# SPDX-License-Identifier: Apache-2.0
"""What a link's entry says about its directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from veilnet.lab.topology import units
from veilnet.lab.topology.items import Item
from veilnet.lab.topology.model import Burst, Direction

Change = dict[str, Any]


def _queue(text: str) -> Change:
    wait, frames = units.queue(text)
    return {"queue_seconds": wait, "queue_frames": frames}


_READERS: dict[str, Callable[[Item], Change]] = {
    "delay": lambda item: {"delay": units.seconds(item.text)},
    "jitter": lambda item: {"jitter": units.seconds(item.text)},
    "loss": lambda item: {"loss": units.share(item.text), "burst": None},
    "burst": lambda item: {"burst": burst(item), "loss": 0.0},
    "reorder": lambda item: {"reorder": units.share(item.text)},
    "duplicate": lambda item: {"duplicate": units.share(item.text)},
    "rate": lambda item: {"rate": units.bits(item.text)},
    "queue": lambda item: _queue(item.text),
    "hole": lambda item: {"mtu": item.number},
    "mtu": lambda item: {"mtu": item.number},
}


def burst(item: Item) -> Burst:
    shares = {name: units.share(value.text) for name, value in item.entries.items()}
    if not shares["r"]:
        raise item["r"].error("0% never leaves the bad state")
    return Burst(**shares)


def directions(item: Item, ends: tuple[str, str]) -> tuple[Direction, Direction]:
    """Both directions of a link: what is said for both, then what is said for `a->b` and `b->a` alone."""
    both = _changed(Direction(), item, skip=("mtu",))
    found = [both, both]
    for name, part in item.entries.items():
        if "->" in name:
            way = tuple(name.split("->"))
            if set(way) != set(ends):
                raise item.keys[name].error(f"{name!r} is no direction of this link: {'->'.join(ends)} or back")
            found[ends.index(way[0])] = _changed(both, part)
    first, second = (check(direction, item) for direction in found)
    return first, second


def leg(item: Item) -> tuple[Direction, Direction]:
    """From a node into its network (`out`), and back (`in`)."""
    both = _changed(Direction(), item)
    parts = [item.get("out"), item.get("in")]
    first, second = (check(_changed(both, part) if part else both, item) for part in parts)
    return first, second


def wear(item: Item) -> Direction:
    """Of every link of a matrix, whose delay comes from the matrix."""
    return _changed(Direction(), item, skip=("mtu",))


def _changed(direction: Direction, item: Item, skip: tuple[str, ...] = ()) -> Direction:
    if "loss" in item.entries and "burst" in item.entries:
        raise item["burst"].error("loss is independent or comes in bursts, not both")
    for name, value in item.entries.items():
        if name in _READERS and name not in skip:
            direction = replace(direction, **_READERS[name](value))
    return direction


def check(direction: Direction, item: Item) -> Direction:
    """Refuse what no wire can do. Raises TopologyError."""
    if direction.jitter > direction.delay:
        raise item.error(f"jitter {direction.jitter * 1000:g} ms is more than the delay {direction.delay * 1000:g} ms")
    if direction.reorder and not direction.delay:
        raise item.error("reorder needs a delay: a frame overtakes by skipping it")
    if (direction.queue_seconds is not None or direction.queue_frames is not None) and direction.rate is None:
        raise item.error("queue needs a rate: without one nothing waits")
    return direction


def with_delay(direction: Direction, delay: float) -> Direction:
    return replace(direction, delay=delay)
