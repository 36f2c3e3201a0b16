# SPDX-License-Identifier: Apache-2.0
"""`lab fault`, `lab undo` and `lab scenario`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from veilnet.lab.faults.run import fault
from veilnet.lab.faults.undo import undo
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import DEFAULT, Lab
from veilnet.lab.named import namespace_fleet
from veilnet.lab.scenario.judge import describe
from veilnet.lab.scenario.model import Scenario
from veilnet.lab.scenario.parse import load, shipped
from veilnet.lab.scenario.report import Run, page
from veilnet.lab.scenario.run import run

FIRST_PING: Final = 30
"""Seconds for a flow's path to come up before traffic: nodes that `undo` restarted may still be on their way."""
_WORDS = """\
link A-B down | up | blackhole | plain
link A-B delay=20ms jitter=1ms loss=5% burst=1%/20% reorder=1% duplicate=1% rate=10mbit mtu=1400
link A->B loss=5%       one direction only
node N kill | restart | kill-daemon | freeze | thaw | clock=+1h | disk-full
nat N rebind | timeout=30s
master stop | start | lag=200ms
undo                    everything back as the file says"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fault_ = commands.add_parser(
        "fault",
        help="make something go wrong in a lab made with `up --wires`",
        epilog=_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fault_.add_argument("--name", default=DEFAULT, help="of the lab (default: lab)")
    fault_.add_argument("words", nargs="+", help="as below")
    fault_.set_defaults(run=_fault)
    undo_ = commands.add_parser("undo", help="take back every fault")
    undo_.add_argument("name", nargs="?", default=DEFAULT, help="of the lab (default: lab)")
    undo_.set_defaults(run=_undo)
    scenario = commands.add_parser("scenario", help="a timeline of faults, with a verdict")
    scenario.add_argument("scenario", help=f"{', '.join(shipped())} or a path")
    scenario.add_argument("--lab", help="run it in this lab, which is up and stays up (default: one of its own)")
    scenario.add_argument("--seed", type=int, help="instead of the file's")
    scenario.add_argument("--report", type=Path, metavar="FILE.html", help="a page with pictures and verdicts")
    scenario.add_argument("--json", action="store_true", help="the verdicts as JSON")
    scenario.set_defaults(run=_scenario)


def _fault(arguments: argparse.Namespace) -> int:
    fault(namespace_fleet(arguments.name, "faults are"), " ".join(arguments.words))
    return 0


def _undo(arguments: argparse.Namespace) -> int:
    undo(namespace_fleet(arguments.name, "faults are"))
    return 0


# ---- scenarios -------------------------------------------------------------------------------------------------


def _scenario(arguments: argparse.Namespace) -> int:
    scenario = load(arguments.scenario)
    if arguments.report and not arguments.report.parent.is_dir():  # said before minutes have passed
        raise LabError(f"--report {arguments.report}: no directory {arguments.report.parent}")
    if arguments.seed is not None:
        scenario = replace(scenario, seed=arguments.seed)
    say: Callable[[str], None] = (lambda _: None) if arguments.json else print
    command = shlex.join(["sudo", "./run", "lab", "scenario", arguments.scenario, "--seed", str(scenario.seed)])
    with _lab(arguments.lab, scenario, say) as fleet:
        done = play(fleet, scenario, command, say)
    if arguments.report:
        arguments.report.write_text(page(done), encoding="utf-8")
    print(json.dumps(_as_json(done), indent=2)) if arguments.json else _show(done)
    return 0 if done.good else 1


@contextmanager
def _lab(name: str | None, scenario: Scenario, say: Callable[[str], None]) -> Iterator[Fleet]:
    if name is not None:
        fleet = namespace_fleet(name, "scenarios are")
        if (found := fleet.topology.name) != Path(scenario.topology).stem:
            raise LabError(f"scenario {scenario.name} is for {scenario.topology}, lab {name} is {found}")
        yield fleet
        undo(fleet)
        return
    lab = Lab(f"scn{os.getpid()}")
    try:
        lab.up(scenario.topology, faultable=True, seed=scenario.seed)
        fleet = Fleet(lab)
        fleet.start(say)
        yield fleet
    finally:
        lab.down()


def play(fleet: Fleet, scenario: Scenario, command: str, say: Callable[[str], None]) -> Run:
    """Wait until every flow's path is there, then run the scenario. Raises LabError."""
    for flow in scenario.flows:
        instance = fleet.lab.instance(flow.source)
        fleet.veilnet(flow.source, "ping", flow.target, "--instance", instance, "--timeout", str(FIRST_PING))
    return run(scenario, fleet, lambda text: fault(fleet, text), command, say)


def _show(done: Run) -> None:
    for verdict in done.verdicts:
        print(f"{verdict.outcome:20} {describe(verdict.expectation)}: {verdict.measured}")
        if verdict.expectation.fails:
            print(f"{'':20} known to fail: {verdict.expectation.fails}")
    print(f"{done.scenario.name}: {'as expected' if done.good else 'NOT as expected'}")


def _as_json(done: Run) -> dict[str, Any]:
    verdicts = [
        {"expected": describe(each.expectation), "outcome": each.outcome, "measured": each.measured}
        for each in done.verdicts
    ]
    head = {"scenario": done.scenario.name, "seed": done.scenario.seed, "good": done.good}
    return head | {"verdicts": verdicts, "drops": done.drops, "facts": done.facts, "command": done.command}
