# SPDX-License-Identifier: Apache-2.0
"""Scenarios without a lab: files, traces, verdicts, pages."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilnet.lab.scenario import plot, report
from veilnet.lab.scenario.judge import judge
from veilnet.lab.scenario.model import Expectation, Kind, Step
from veilnet.lab.scenario.parse import load, parse, shipped
from veilnet.lab.scenario.traces import RECORD, Packet, Trace, TraceError
from veilnet.lab.topology.items import TopologyError

TEXT = """name: dies
topology: diamond
seed: 7
duration: 20s
flows:
  main: {from: c1, to: c2, rate: 500, size: 128}
  back: {from: c2, to: c1}
timeline:
  - {at: 15s, fault: undo}
  - {at: 5s, fault: node g1 kill}
expect:
  - {flow: main, loss: 0%, to: 5s}
  - {flow: main, recovers: 150ms, from: 5s, to: 15s, expected to fail: no backup path yet}
  - {flow: back, silent: true, from: 5s, to: 6s}
  - {flow: back, delay: 20ms}
"""


def test_a_scenario_as_it_is_written() -> None:
    found = parse(TEXT)
    assert (found.name, found.topology, found.seed, found.duration) == ("dies", "diamond", 7, 20.0)
    assert [(flow.name, flow.rate, flow.size) for flow in found.flows] == [("main", 500, 128), ("back", 100, 64)]
    assert found.steps == (Step(5.0, "node g1 kill"), Step(15.0, "undo"))
    assert found.expectations[1] == Expectation("main", "recovers", 0.15, 5.0, 15.0, "no backup path yet")
    assert [item.kind for item in found.expectations] == ["loss", "recovers", "silent", "delay"]


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("duration: 20s", "duration: 20", 4, "a time with its unit"),
        ("duration: 20s", "duration: 0s", 4, "more than 0"),
        ("duration: 20s", "duration: 20s\ncolour: red", 5, "unknown key 'colour'"),
        ("to: c2, rate", "to: c1, rate", 6, "between two nodes"),
        ("rate: 500", "rate: 999999", 6, "from 1 to 5000"),
        ("rate: 500", "rate: fast", 6, "from 1 to 5000"),
        ("at: 15s", "at: 25s", 9, "ends at 20 s"),
        ("flow: main, loss: 0%", "flow: mian, loss: 0%", 12, "no flow 'mian'; flows: back, main"),
        ("loss: 0%", "loss: 200%", 12, "a percentage"),
        ("loss: 0%", "loss: 0%, delay: 1s", 12, "exactly one of"),
        ("loss: 0%, to", "to", 12, "exactly one of"),
        ("from: 5s, to: 6s", "from: 6s, to: 6s", 14, "no part of"),
        ("from: 5s, to: 6s", "from: 5s, to: 60s", 14, "no part of"),
        ("silent: true", "silent: false", 14, "true, or leave it out"),
        ("topology: diamond\n", "", 1, "missing key 'topology'"),
    ],
)
def test_refusals_name_line_and_reason(old: str, new: str, line: int, why: str) -> None:
    assert old in TEXT
    with pytest.raises(TopologyError, match=rf"^s\.yml:{line}: .*{re.escape(why)}"):
        parse(TEXT.replace(old, new, 1), "s.yml")


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(TopologyError, match="shipped scenarios are"):
        load("nowhere")


@pytest.mark.parametrize("name", shipped())
def test_shipped_scenarios_can_be_read(name: str) -> None:
    assert load(name).name == name


def trace(*delays: float | None, interval: float = 0.01) -> Trace:
    return Trace([Packet(index * interval, delay) for index, delay in enumerate(delays)])


def test_figures_of_a_trace() -> None:
    found = trace(0.001, None, None, 0.002, None, 0.003, 0.1, None)
    assert found.loss(0, 1) == 0.5
    assert found.outage(0, 0.069) == pytest.approx(0.02)
    assert found.outage(0, 1) == math.inf
    assert found.delay(0, 1, 0.5) == 0.002 and found.delay(0, 1, 0.99) == 0.1
    assert math.isnan(found.loss(5, 6)) and math.isnan(trace(None).delay(0, 1, 0.99))
    bins = list(found.bins(0.04, 0.08))
    assert [(item.sent, item.lost, item.median, item.worst) for item in bins] == [
        (4, 2, 0.002, 0.002),
        (4, 2, 0.1, 0.1),
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_outage_against_a_plain_count_of_runs(arrived: list[bool]) -> None:
    found = trace(*[0.001 if here else None for here in arrived], interval=1.0)
    runs = [len(run) for run in "".join("x" if here else "." for here in arrived).strip("x").split("x") if run]
    wanted = math.inf if not arrived[-1] else float(max(runs, default=0))
    assert found.outage(0, 1000) == wanted


def test_files_of_the_probe_and_wrong_ones() -> None:
    sent = b"".join(RECORD.pack(number, 1_000 + number * 10) for number in range(3))
    got = RECORD.pack(2, 1_100) + RECORD.pack(0, 1_050) + RECORD.pack(0, 1_060)
    found = Trace.of_files(sent, got, 1_000)
    assert [packet.delay for packet in found.packets] == pytest.approx([5e-8, None, 8e-8])
    assert found.duplicates == 1
    for wrong in (sent[:-1], RECORD.pack(9, 1)):
        with pytest.raises(TraceError):
            Trace.of_files(sent, wrong, 0)


def verdict(kind: Kind, limit: float, *delays: float | None, fails: str = "") -> str:
    expectation = Expectation("f", kind, limit, 0, 1, fails)
    return judge([expectation], {"f": trace(*delays)})[0].outcome


def test_verdicts() -> None:
    assert verdict("loss", 0, 0.1, 0.1) == "holds"
    assert verdict("loss", 0.4, 0.1, None) == "fails"
    assert verdict("recovers", 0.02, 0.1, None, 0.1) == "holds"
    assert verdict("recovers", 0.005, 0.1, None, 0.1) == "fails"
    assert verdict("recovers", 10, 0.1, None) == "fails"
    assert verdict("delay", 0.2, 0.1) == "holds" and verdict("delay", 0.05, 0.1) == "fails"
    assert verdict("silent", 0, None, None) == "holds" and verdict("silent", 0, None, 0.1) == "fails"
    assert verdict("loss", 0, None, fails="not yet") == "fails as expected"
    assert verdict("loss", 0, 0.1, fails="not yet") == "holds unexpectedly"


@pytest.mark.parametrize("kind", ["loss", "recovers", "delay", "silent"])
def test_without_packets_nothing_holds(kind: Kind) -> None:
    assert verdict(kind, 1e9) == "fails"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def made() -> report.Run:
    scenario = parse(TEXT.replace("no backup path yet", "<b>not yet</b> & so on"))
    traces = {
        "main": trace(*[0.001] * 700, *[None] * 300, *[0.002] * 1000),
        "back": trace(*[0.001] * 2000),
    }
    verdicts = judge(scenario.expectations, traces)
    drops = {"g1": {"DROP_REPLAY": 3}}
    return report.Run(scenario, traces, verdicts, drops, {"kernel": "6.18"}, "lab scenario dies --seed 7")


def test_the_page_stands_alone_and_escapes_what_it_shows() -> None:
    page = report.page(made())
    assert "<b>not yet" not in page and "&lt;b&gt;not yet&lt;/b&gt; &amp; so on" in page
    found = _Page()
    found.feed(page)
    names = [tag for tag, _ in found.tags]
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert not any({"src", "href"} & set(attributes) for _, attributes in found.tags)
    assert "url(" not in page and "@import" not in page
    assert names.count("svg") == 4
    for text in ("DROP_REPLAY", "lab scenario dies --seed 7", "node g1 kill", "seed 7", "not as expected"):
        assert text in page


def test_pictures_are_well_formed_and_inside_their_frame() -> None:
    run = made()
    for drawn in (plot.delivery, plot.delays):
        picture = drawn(list(run.traces["main"].bins(0.1, 20)), 0.1, 20, run.scenario.steps)
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own text
        for bar in root.iter("rect"):
            assert plot.LEFT - 0.1 <= float(bar.attrib["x"]) <= plot.WIDTH
            assert plot.TOP - 0.1 <= float(bar.attrib["y"]) <= plot.HEIGHT - plot.BOTTOM
        assert len([line for line in root.iter("line") if line.attrib["class"] == "fault"]) == 2
    assert "lost" in plot.delivery(list(run.traces["main"].bins(0.1, 20)), 0.1, 20, ())


@given(st.floats(1e-9, 1e12))
def test_axes_end_at_a_round_number_not_below_the_value(value: float) -> None:
    top = plot.nice(value)
    assert value * 0.99999 <= top <= value * 10.0001
    assert re.match(r"^[125]0*$", f"{top / 10 ** math.floor(math.log10(top) + 1e-9):.6g}")
