# SPDX-License-Identifier: Apache-2.0
"""A run of a scenario as one HTML page that needs nothing beside itself: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from veilnet.lab.scenario import plot
from veilnet.lab.scenario.judge import Verdict, describe
from veilnet.lab.scenario.model import Flow, Scenario
from veilnet.lab.scenario.traces import Trace

BINS: Final = 200
STYLE: Final = Path(__file__).with_name("report.css")


@dataclass(frozen=True)
class Run:
    """Everything that a report tells."""

    scenario: Scenario
    traces: Mapping[str, Trace]
    verdicts: Sequence[Verdict]
    drops: Mapping[str, Mapping[str, int]]
    """Frames dropped meanwhile: node → reason → number."""
    facts: Mapping[str, str]
    """Versions, date, machine: name → value."""
    command: str
    """What repeats it."""

    @property
    def good(self) -> bool:
        return all(verdict.good for verdict in self.verdicts)


def page(run: Run) -> str:
    scenario = run.scenario
    state, text = ("good", "as expected") if run.good else ("bad", "not as expected")
    parts = [
        f"<h1>{escape(scenario.name)} <span class={state}>{text}</span></h1>",
        f'<p class="faint">topology {escape(scenario.topology)}, seed {scenario.seed}, {scenario.duration:g} s</p>',
        _verdicts(run.verdicts),
        _timeline(scenario),
        *(_flow(flow, run.traces[flow.name], scenario) for flow in scenario.flows),
        _drops(run.drops),
        _facts(run.facts),
        f"<h2>Again</h2><pre>{escape(run.command)}</pre>",
        f"<h2>Scenario</h2><pre>{escape(scenario.text)}</pre>",
    ]
    title = f"<title>{escape(scenario.name)}</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}<style>{_style()}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _style() -> str:
    return STYLE.read_text(encoding="utf-8")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (
            f'<span class="{"good" if item.good else "bad"}">{item.outcome}</span>',
            escape(describe(item.expectation)) + _why(item.expectation.fails),
            escape(item.measured),
        )
        for item in verdicts
    ]
    return "<h2>Expected and measured</h2>" + _table(("", "expected", "measured"), rows)


def _why(known: str) -> str:
    return f'<br><span class="faint">known to fail: {escape(known)}</span>' if known else ""


def _timeline(scenario: Scenario) -> str:
    if not scenario.steps:
        return ""
    rows = [(f"{step.at:g} s", f"<code>{escape(step.fault)}</code>") for step in scenario.steps]
    return "<h2>Faults</h2>" + _table(("at", "fault"), rows)


def _flow(flow: Flow, trace: Trace, scenario: Scenario) -> str:
    width = max(scenario.duration / BINS, 2 / flow.rate)
    bins = list(trace.bins(width, scenario.duration))
    lost = sum(item.lost for item in bins)
    sent = sum(item.sent for item in bins)
    title = f"<h2>{escape(flow.name)}: {escape(flow.source)} to {escape(flow.target)}</h2>"
    text = f"{sent} packets of {flow.size} bytes at {flow.rate:g}/s, {lost} lost, {trace.duplicates} duplicates"
    pictures = [drawn(bins, width, scenario.duration, scenario.steps) for drawn in (plot.delivery, plot.delays)]
    return f'{title}<p class="faint">{text}</p>{"".join(pictures)}'


def _drops(drops: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        (escape(node), escape(reason), str(number))
        for node, reasons in sorted(drops.items())
        for reason, number in sorted(reasons.items(), key=lambda pair: -pair[1])
    ]
    if not rows:
        return "<h2>Frames dropped by VeilNet</h2><p>None.</p>"
    return "<h2>Frames dropped by VeilNet</h2>" + _table(("node", "reason", "frames"), rows)


def _facts(facts: Mapping[str, str]) -> str:
    return "<h2>Where</h2>" + _table(("", ""), [(escape(name), escape(value)) for name, value in facts.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
