# SPDX-License-Identifier: Apache-2.0
"""A scenario from its YAML file, refused with file, line and path when it is wrong.

name: guardian-dies
topology: diamond                 # a shipped one or a path
seed: 1                           # of everything random; default 1
duration: 20s
flows:
  main: {from: c1, to: c2, rate: 500, size: 128}
timeline:
  - {at: 5s, fault: node g1 kill}
  - {at: 15s, fault: undo}
expect:                           # `from` and `to` bound the packets by their sending; default: from start to end
  - {flow: main, loss: 0%, to: 5s}
  - {flow: main, recovers: 150ms, from: 5s, to: 15s, expected to fail: no backup path yet}
  - {flow: main, delay: 20ms}     # 99th percentile, one way
  - {flow: other, silent: true}   # nothing may arrive
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

from veilnet.lab.scenario.model import Expectation, Flow, Kind, Scenario, Step
from veilnet.lab.topology import units
from veilnet.lab.topology.grammar import Boolean, Integer, Mapping, Record, Sequence, Text
from veilnet.lab.topology.items import Item, TopologyError

SHIPPED: Final = Path(__file__).parents[1] / "scenarios"
DURATION_MAX: Final = 3600.0
RATE_MAX: Final = 5000
"""Packets a second that a probe in Python keeps evenly spaced beside a data plane on two cores."""

_TIME = Text(units.TIME, "a time with its unit, such as 20ms or 1.5s")
_NAME = Text(r"^[a-z][a-z0-9-]{0,31}$", "a name of a-z, 0-9 and -")
_NODE = Text(r"^[a-z][a-z0-9]{0,7}$", "the name of a node")
_LINE = Text(r"^[^\n]{1,200}$", "a line of text")
_FLOW = Record({"from": _NODE, "to": _NODE}, {"rate": Integer(1, RATE_MAX), "size": Integer(8, 8900)})
_STEP = Record({"at": _TIME, "fault": _LINE})
_EXPECT = Record(
    {"flow": _NAME},
    {
        "loss": Text(units.SHARE, "a percentage, such as 0% or 0.1%"),
        "recovers": _TIME,
        "delay": _TIME,
        "silent": Boolean(),
        "from": _TIME,
        "to": _TIME,
        "expected to fail": _LINE,
    },
)
SCENARIO: Final = Record(
    {
        "name": _NAME,
        "topology": _LINE,
        "duration": _TIME,
        "flows": Mapping(_NAME, _FLOW),
        "expect": Sequence(_EXPECT, "a list of expectations, at least one", low=1),
    },
    {"seed": Integer(0, 2**32 - 1), "timeline": Sequence(_STEP, "a list of {at: TIME, fault: COMMAND}")},
)


def shipped() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yml"))


def load(name_or_path: str) -> Scenario:
    """Scenario by the name of a shipped one, or by path. Raises TopologyError."""
    path = SHIPPED / f"{name_or_path}.yml"
    if "/" in name_or_path or not path.is_file():
        path = Path(name_or_path)
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise TopologyError(f"{path}: {why}; shipped scenarios are {', '.join(shipped())}") from error


def parse(text: str, source: str = "scenario") -> Scenario:
    """Raises TopologyError."""
    root = Item.document(text, source)
    SCENARIO.check(root)
    duration = units.seconds(root.entries["duration"].text)
    if not 0 < duration <= DURATION_MAX:
        raise root.entries["duration"].error(f"more than 0 and at most {DURATION_MAX:.0f} s")
    flows = tuple(_flow(name, item) for name, item in root.entries["flows"].entries.items())
    steps = [_step(item, duration) for item in _elements(root, "timeline")]
    names = {flow.name for flow in flows}
    seed = root.get("seed")
    return Scenario(
        name=root.entries["name"].text,
        topology=root.entries["topology"].text,
        seed=1 if seed is None else int(seed.number),
        duration=duration,
        flows=flows,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        expectations=tuple(_expectation(item, names, duration) for item in _elements(root, "expect")),
        text=text,
    )


def _elements(root: Item, name: str) -> list[Item]:
    item = root.get(name)
    return [] if item is None else list(item.elements)


def _flow(name: str, item: Item) -> Flow:
    rate, size = item.get("rate"), item.get("size")
    source, target = item.entries["from"].text, item.entries["to"].text
    if source == target:
        raise item.error("a flow is between two nodes")
    return Flow(name, source, target, 100 if rate is None else rate.number, 64 if size is None else int(size.number))


def _step(item: Item, duration: float) -> Step:
    at = units.seconds(item.entries["at"].text)
    if at >= duration:
        raise item.entries["at"].error(f"the scenario ends at {duration:g} s")
    return Step(at, item.entries["fault"].text)


def _expectation(item: Item, flows: set[str], duration: float) -> Expectation:
    flow = item.entries["flow"]
    if flow.text not in flows:
        raise flow.error(f"no flow {flow.text!r}; flows: {', '.join(sorted(flows)) or 'none'}")
    kinds = [kind for kind in get_args(Kind) if kind in item.entries]
    if len(kinds) != 1:
        raise item.error(f"exactly one of {', '.join(get_args(Kind))}")
    since, until = (_time(item, name, default) for name, default in (("from", 0.0), ("to", duration)))
    if not since < until <= duration:
        raise item.error(f"from {since:g} s to {until:g} s is no part of the scenario's {duration:g} s")
    known = item.get("expected to fail")
    limit = _LIMITS[kinds[0]](item.entries[kinds[0]])
    return Expectation(flow.text, kinds[0], limit, since, until, "" if known is None else known.text)


def _time(item: Item, name: str, default: float) -> float:
    found = item.get(name)
    return default if found is None else units.seconds(found.text)


def _silent(item: Item) -> float:
    if item.value is not True:
        raise item.error("true, or leave it out")
    return 0.0


_LIMITS: Final[dict[Kind, Callable[[Item], float]]] = {
    "loss": lambda item: units.share(item.text),
    "recovers": lambda item: units.seconds(item.text),
    "delay": lambda item: units.seconds(item.text),
    "silent": _silent,
}
