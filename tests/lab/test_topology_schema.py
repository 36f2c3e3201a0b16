# SPDX-License-Identifier: Apache-2.0
"""The published JSON schema and the parser refuse the same files: on examples, and on what chance makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from veilnet.lab.topology import BUILTIN, TopologyError, builtin, language, parse
from veilnet.lab.topology.language import SCHEMA

EVERYTHING = """\
name: all-words
seed: 7
underlay: {ipv4: 10.77.0.0/16, ipv6: "fd77::/48"}
nodes:
  m: {role: master}
  g: {role: guardian}
  c: {role: conflux, light: false}
  l: {role: conflux, light: true, count: 3}
  r: {role: router, udp: blocked, icmp: no-errors, filtering: address-and-port-dependent, outside: lan}
  n: {role: nat, mapping: endpoint-independent, filtering: address-dependent, timeout: 2s, hairpin: true, ports: random}
  h: {role: host}
links:
  - [g, r]
  - {ends: [c, n], wire: true, ipv4: 192.0.2.0/24, addresses: {c: [192.0.2.9]}}
  - ends: [n, r]
    delay: 20ms
    jitter: 2ms
    rate: 1.5mbit
    queue: 50ms
    mtu: 1400
    n->r: {burst: {p: 1%, r: 20%, bad: 90%, good: 0.1%}, reorder: 1%, duplicate: 0.5%, queue: 20p}
    r->n: {mtu: 1300}
networks:
  lan: {nodes: {h: {delay: 5ms}, r: {out: {loss: 1%}, in: {mtu: 900}, hole: 1000}}, mtu: 1300}
  wan: {nodes: [g], ipv6: "2001:db8::/64"}
matrix: {file: m.csv, values: one-way, nodes: {g: A, c: B}, mtu: 1300, loss: 1%}
edges: [[g, c]]
"""
CSV = b"x,A,B\nA,,20\nB,30,\n"
VALIDATOR = jsonschema.Draft202012Validator(language.schema())
_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70000),
    st.sampled_from(
        [1400.0, 1.5, "", "a", "A", "toolongname", "20ms", "20 ms", "1%", "101%", "5p", "0p", "10mbit", "x"]
    ),
    st.sampled_from(
        [[], ["a"], ["a", "b"], ["a", "b", "c"], {}, {"role": "host"}, {"ends": ["g", "h"]}, {"delay": "1ms"}]
    ),
)


def structural(text: str) -> bool:
    """Whether the parser refuses a file for its words, whatever it says."""
    try:
        parse(text, "t.yml", lambda _: CSV)
    except TopologyError as error:
        return error.structural
    return False


def test_published_schema_is_that_of_the_language() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == language.text(), "run: python -m veilnet.lab.topology"
    jsonschema.Draft202012Validator.check_schema(language.schema())


@pytest.mark.parametrize("name", builtin())
def test_shipped_topologies_are_of_the_schema(name: str) -> None:
    VALIDATOR.validate(yaml.safe_load((BUILTIN / f"{name}.yml").read_text(encoding="utf-8")))


def test_every_word_is_taken() -> None:
    VALIDATOR.validate(yaml.safe_load(EVERYTHING))
    topology = parse(EVERYTHING, "t.yml", lambda _: CSV)
    way = topology.link("n", "r").direction("n")
    assert (way.delay, way.jitter, way.rate, way.queue_frames, way.queue_seconds) == (0.02, 0.002, 1_500_000, 20, None)
    assert way.burst is not None
    assert (way.burst.p, way.burst.r, way.burst.bad, way.burst.good) == (0.01, 0.2, 0.9, 0.001)
    assert (way.reorder, way.duplicate, way.mtu) == (0.01, 0.005, None)
    assert topology.link("r", "n").direction("r").mtu == 1300
    assert str(topology.link("c", "n").address("c")) == "192.0.2.9"
    assert [each.delay for each in topology.link("g", "c").directions] == [0.02, 0.03], "one way, as the matrix says"
    assert [node.name for node in topology.light] == ["l1", "l2", "l3"]
    assert topology.nodes["n"].outside == "r"


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The full example with up to three values replaced, removed or added."""
    document: Any = copy.deepcopy(yaml.safe_load(EVERYTHING))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(document)[1:] or [()]))
        if not path:
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "replace":
            parent[path[-1]] = copy.deepcopy(draw(_JUNK))
        elif what == "remove":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(["colour", "delay", "mtu", "a->b", "light", "role", "Bad", "ipv4"]))] = (
                copy.deepcopy(draw(_JUNK))
            )
        else:
            parent.append(copy.deepcopy(draw(_JUNK)))
    return document


@settings(max_examples=250)
@given(document=mutated())
def test_schema_and_parser_refuse_the_same(document: Any) -> None:
    text = yaml.safe_dump(document)
    assert VALIDATOR.is_valid(yaml.safe_load(text)) == (not structural(text)), text


BAD = {
    "an alias inside its own value": (
        "  h: {role: host}",
        "  h: &h {role: host, of: [*h]}",
        "t.yml:11: an alias (*name) stands inside what it names; write the value out",
    ),
    "unknown role field": ("  h: {role: host}", "  h: {role: host, udp: open}", "t.yml:11: nodes.h: unknown key 'udp'"),
    "no unit": ("delay: 20ms", "delay: 20", "t.yml:16: links[2].delay: a time with its unit"),
    "unit of something else": ("rate: 1.5mbit", "rate: 1.5ms", "t.yml:18: links[2].rate: a rate with its unit"),
    "share above all": ("loss: 1%", "loss: 101%", "networks.lan.nodes.r.out.loss: a percentage"),
    "MTU below the minimum": ("mtu: 1400", "mtu: 500", "t.yml:20: links[2].mtu: an MTU in bytes from 576 to 65535"),
    "MTU that XDP can't have": ("- [g, r]", "- {ends: [g, r], mtu: 9000}", "t.yml:13: links[0].mtu: g attaches XDP"),
    "jitter above delay": ("jitter: 2ms", "jitter: 21ms", "t.yml:15: links[2]: jitter 21 ms is more than the delay"),
    "no such direction": ("n->r:", "n->h:", "t.yml:21: links[2]: 'n->h' is no direction of this link"),
    "link to nowhere": ("- [g, r]", "- [g, zz]", "t.yml:13: links[0][1]: link to nowhere: no node 'zz'"),
    "link to a light node": ("- [g, r]", "- [g, l1]", "t.yml:13: links[0][1]: l1 is a light node"),
    "address of nobody": ("{c: [192.0.2.9]}", "{g: [192.0.2.9]}", "'g' is not on c-n"),
    "address elsewhere": ("192.0.2.9", "192.0.3.9", "192.0.3.9 is in none of 192.0.2.0/24"),
    "duplicate address": ("{c: [192.0.2.9]}", "{c: [192.0.2.9], n: [192.0.2.9]}", "duplicate address 192.0.2.9"),
    "host bits": ("192.0.2.0/24, addresses: {c: [192.0.2.9]}", "192.0.2.1/24", "has host bits set"),
    "overlap": (
        'ipv6: "2001:db8::/64"',
        "ipv4: 10.77.0.0/30",
        "t.yml:25: networks.wan: duplicate addresses: 10.77.0.0/30",
    ),
    "the lab's own": (
        'ipv6: "2001:db8::/64"',
        "ipv4: 10.76.1.0/24",
        "overlaps 10.76.0.0/16, which the lab itself uses",
    ),
    "network as a node": ("  wan:", "  h:", "networks.h: the name is taken by a node"),
    "hole in the matrix": ("file: m.csv", "file: hole.csv", "hole.csv: hole: no latency from A to B"),
    "not square": ("file: m.csv", "file: flat.csv", "t.yml:26: matrix.file: flat.csv: not square"),
    "asymmetric": ("values: one-way", "values: rtt", "asymmetric: 20 ms from A to B, 30 ms back"),
    "no such row": ("c: B", "c: C", "no row 'C'; there are A, B"),
    "edge to nowhere": ("[[g, c]]", "[[g, h]]", "t.yml:27: edges[0][1]: no guardian or conflux 'h'"),
    "edge twice": ("[[g, c]]", "[[g, c], [c, g]]", "t.yml:27: edges[1]: edge c - g leads nowhere new"),
    "count of whole nodes": ("light: false", "count: 3", "only light nodes are counted"),
    "NAT without an inside": ("- {ends: [c, n], wire: true", "- {ends: [c, h], wire: true", "needs one port outside"),
    "burst for ever": ("r: 20%", "r: 0%", "0% never leaves the bad state"),
    "loss twice": ("n->r: {burst", "n->r: {loss: 1%, burst", "loss is independent or comes in bursts"),
    "queue without a rate": ("    rate: 1.5mbit\n", "", "queue needs a rate"),
}
FILES = {"m.csv": CSV, "hole.csv": b"x,A,B\nA,,\nB,30,\n", "flat.csv": b"x,A,B\nA,,1\n"}


@pytest.mark.parametrize("case", BAD)
def test_contradiction_names_what_and_where(case: str) -> None:
    old, new, message = BAD[case]
    assert old in EVERYTHING
    with pytest.raises(TopologyError) as caught:
        parse(EVERYTHING.replace(old, new, 1), "t.yml", lambda name: FILES[name])
    assert message in str(caught.value)


def test_nat_that_leads_back_to_itself_is_a_loop() -> None:
    text = """\
name: loop
nodes:
  m: {role: master}
  r: {role: router}
  a: {role: nat, mapping: address-dependent, filtering: address-dependent, outside: b}
  b: {role: nat, mapping: address-dependent, filtering: address-dependent, outside: r}
links: [[a, b], [b, r], [r, a]]
"""
    with pytest.raises(TopologyError, match=r"t.yml:\d: nodes.[ab]: loop: its outside leads back to its inside"):
        parse(text, "t.yml")


def test_ipv6_needs_its_minimum() -> None:
    text = "name: t\nunderlay: {ipv6: 'fd77::/48'}\nnodes:\n  m: {role: master}\n  a: {role: host}\n  b: {role: host}\n"
    with pytest.raises(TopologyError, match=r"links\[0\]: MTU 1279 is below IPv6's minimum of 1280"):
        parse(text + "links: [{ends: [a, b], mtu: 1279}]\n", "t.yml")


def test_matrix_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.yml").write_text(EVERYTHING)
    with pytest.raises(TopologyError, match=r"m\.csv: No such file or directory"):
        parse(EVERYTHING, str(tmp_path / "t.yml"))
