# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario in a lab that is up: probes, then the timeline, then verdicts."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Final

from veilnet import contract
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.scenario.judge import judge
from veilnet.lab.scenario.model import Flow, Scenario
from veilnet.lab.scenario.report import Run
from veilnet.lab.scenario.traces import Trace

PORT: Final = 5300
PROBE: Final = (sys.executable, "-m", "veilnet.lab.scenario.probe")
SLOW: Final = 1.0
"""Seconds that a fault may take unmentioned."""
Say = Callable[[str], None]


def run(scenario: Scenario, fleet: Fleet, fault: Callable[[str], None], command: str, say: Say) -> Run:
    """`fault` carries out a step's text. Raises LabError; then the lab is as the faults left it."""
    _check_nodes(scenario, fleet)
    with tempfile.TemporaryDirectory(prefix="veilnet-scenario-") as folder:
        before = _drops(fleet)
        traces = _traffic(scenario, fleet, fault, Path(folder), say)
        after = _drops(fleet)
    verdicts = judge(scenario.expectations, traces)
    return Run(scenario, traces, verdicts, _difference(before, after), facts(), command)


def _check_nodes(scenario: Scenario, fleet: Fleet) -> None:
    members = {node.name for node in fleet.topology.members}
    for flow in scenario.flows:
        for node in (flow.source, flow.target):
            if node not in members:
                known = ", ".join(sorted(members))
                msg = f"flow {flow.name}: {scenario.topology} has no member {node!r}; members: {known}"
                raise LabError(msg)


def _traffic(
    scenario: Scenario, fleet: Fleet, fault: Callable[[str], None], folder: Path, say: Say
) -> dict[str, Trace]:
    with ExitStack() as stack:
        receivers = [
            stack.enter_context(_receiver(fleet, flow, PORT + index, folder))
            for index, flow in enumerate(scenario.flows)
        ]
        senders = [
            stack.enter_context(_sender(fleet, flow, PORT + index, scenario.duration, folder))
            for index, flow in enumerate(scenario.flows)
        ]
        start = time.monotonic_ns()
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        _timeline(scenario, fault, start, say)
        for sender in senders:
            sender.wait(scenario.duration + 60)
        for receiver in receivers:
            receiver.send_signal(signal.SIGTERM)
            receiver.wait(30)
    return {
        flow.name: Trace.of_files((folder / f"{flow.name}.sent").read_bytes(), _received(folder, flow), start)
        for flow in scenario.flows
    }


def _timeline(scenario: Scenario, fault: Callable[[str], None], start_ns: int, say: Say) -> None:
    """Each step at its time; a step that takes long does not hold up the next one's clock."""
    wrong: list[BaseException] = []

    def act(text: str) -> None:
        begun = time.monotonic()
        try:
            fault(text)
        except BaseException as error:
            wrong.append(error)
        if (took := time.monotonic() - begun) >= SLOW:
            say(f"{text}: took {took:.1f} s")

    threads = []
    for step in scenario.steps:
        time.sleep(max(0.0, start_ns / 1e9 + step.at - time.monotonic()))
        say(f"{step.at:g} s: {step.fault}")
        threads.append(threading.Thread(target=act, args=(step.fault,)))
        threads[-1].start()
        if step.fault == "undo":
            threads[-1].join()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def _received(folder: Path, flow: Flow) -> bytes:
    return (folder / f"{flow.name}.received").read_bytes()


@contextmanager
def _receiver(fleet: Fleet, flow: Flow, port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    address = fleet.overlay_address(flow.target)
    with _probe(fleet, flow.target, "receive", address, str(port), str(folder / f"{flow.name}.received")) as process:
        yield process


@contextmanager
def _sender(fleet: Fleet, flow: Flow, port: int, seconds: float, folder: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(port), str(flow.rate), str(seconds), str(flow.size), str(folder / f"{flow.name}.sent")]
    with _probe(fleet, flow.source, "send", fleet.overlay_address(flow.target), *arguments) as process:
        yield process


@contextmanager
def _probe(fleet: Fleet, node: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    line = fleet.lab.command(node, [*PROBE, *arguments])
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            _await_ready(process.stdout, node)
            yield process
        finally:
            process.kill()


def _await_ready(output: IO[str] | None, node: str) -> None:
    if output is None or output.readline().strip() != "ready":
        msg = f"{node}: the probe did not start; is the node up and has it an overlay address?"
        raise LabError(msg)


def _drops(fleet: Fleet) -> dict[str, dict[str, int]]:
    """By node and reason; a node whose daemon is away now tells nothing."""
    found = {}
    for node in fleet.topology.members:
        with suppress(LabError):
            reasons = fleet.status(node.name)["data_plane"]
            found[node.name] = {name: n for name, n in reasons.items() if contract.REASON_CLASS[name] == "DROP"}
    return found


def _difference(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    found = {}
    for node, reasons in after.items():
        rows = {reason: count - before.get(node, {}).get(reason, 0) for reason, count in reasons.items()}
        if more := {reason: count for reason, count in rows.items() if count > 0}:
            found[node] = more
    return found


def facts() -> dict[str, str]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "VeilNet": version("veilnet"),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "CPUs": str(os.cpu_count()),
    }
