# SPDX-License-Identifier: Apache-2.0
"""The topology file: what is accepted, and that a refusal names file, line and path."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilnet.lab.topology import BUILTIN, TopologyError, builtin, load, parse

GOOD = """\
name: t
nodes:
  m: {role: master}
  a: {role: conflux}
  b: {role: guardian}
links:
  - [a, b]
"""


def test_good_topology() -> None:
    topology = parse(GOOD)
    assert [link.ends for link in topology.links] == [("a", "b")]
    assert topology.master.name == "m"
    assert [node.name for node in topology.members] == ["a", "b"]
    assert topology.neighbours("a") == ["b"]
    assert [str(topology.links[0].address(name)) for name in "ab"] == ["10.77.0.1", "10.77.0.2"]
    assert str(topology.links[0].subnet) == "10.77.0.0/30"
    assert str(topology.nodes["m"].management) == "10.76.0.1"


def test_wired_link() -> None:
    topology = parse(GOOD.replace("[a, b]", "{ends: [a, b], wire: true}"))
    assert topology.links[0].wire == "wire0"
    assert topology.neighbours("a") == ["b"]


@pytest.mark.parametrize("name", ["pair", "line3", "diamond", "ring6"])
def test_builtin_topologies_load_and_are_connected(name: str) -> None:
    topology = load(name)
    assert topology.name == name
    reached, todo = set(), ["c1"]
    while todo:
        node = todo.pop()
        reached.add(node)
        todo += [peer for peer in topology.neighbours(node) if peer not in reached]
    assert reached == {node.name for node in topology.members}


def test_line3_is_a_line_through_three_guardians() -> None:
    topology = load("line3")
    assert [link.ends for link in topology.links] == [("c1", "g1"), ("g1", "g2"), ("g2", "g3"), ("g3", "c2")]
    assert len({link.subnet for link in topology.links}) == 4
    assert [node.name for node in topology.with_role("guardian")] == ["g1", "g2", "g3"]
    assert [node.name for node in topology.with_role("conflux")] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: t\n", "name: t\ncolour: red\n", "t.yml:2: topology: unknown key 'colour'"),
        ("name: t\n", "", "t.yml:1: topology: missing key 'name'"),
        ("name: t\n", "name: T-1\n", "t.yml:1: name: a name is a letter"),
        ("name: t\n", "name: [t\n", "t.yml:2: not YAML"),
        ("  b: {role: guardian}", "  a: {role: guardian}", "t.yml:5: nodes: duplicate key 'a'"),
        ("  b: {role: guardian}", "  b: {role: relay}", "t.yml:5: nodes.b.role: one of"),
        ("  b: {role: guardian}", "  b: {role: guardian, mtu: 9}", "t.yml:5: nodes.b: unknown key 'mtu'"),
        ("  b: {role: guardian}", "  b: guardian", "t.yml:5: nodes.b: a mapping"),
        ("  b: {role: guardian}", "  b: {role: master}", "t.yml:3: nodes: exactly one node has role master, here 2"),
        ("  m: {role: master}\n", "", "t.yml:3: nodes: exactly one node has role master, here 0"),
        ("  b: {role: guardian}", "  much2long: {role: guardian}", "t.yml:5: nodes: a name is"),
        ("  b: {role: guardian}", "  mgmt: {role: guardian}", "t.yml:5: nodes.mgmt: the name belongs"),
        ("  - [a, b]", "  - [a, a]", "t.yml:7: links[0]: link from a to itself"),
        ("  - [a, b]", "  - [a, z]", "t.yml:7: links[0][1]: link to nowhere: no node 'z'"),
        ("  - [a, b]", "  - [a, m]", "t.yml:7: links[0][1]: the Master"),
        ("  - [a, b]", "  - [a]", "t.yml:7: links[0]: a link is"),
        ("  - [a, b]", "  - [a, b]\n  - [b, a]", "t.yml:8: links[1]: duplicate link b - a"),
        ("  b: {role: guardian}", "  wire0: {role: guardian}", "t.yml:5: nodes.wire0: the name belongs"),
        ("  - [a, b]", "  - {ends: [a, b], wire: 1}", "t.yml:7: links[0].wire: true or false"),
        ("  - [a, b]", "  - {ends: [a, b], tap: true}", "t.yml:7: links[0]: unknown key 'tap'"),
        ("links:\n  - [a, b]", "links: none", "t.yml:6: links: a list"),
    ],
)
def test_refusal_names_line_and_path(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(TopologyError) as caught:
        parse(GOOD.replace(old, new), "t.yml")
    assert message in str(caught.value)


def test_empty_file_is_refused() -> None:
    with pytest.raises(TopologyError, match=r"t\.yml:1: topology: a mapping"):
        parse("", "t.yml")


def test_unknown_name_lists_the_built_in_ones(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="built-in topologies are behind-nat, diamond, fleet200, line3, "):
        load(str(tmp_path / "none.yml"))
    shipped = {"behind-nat", "diamond", "fleet200", "line3", "mtu-ladder", "nat16", "pair", "ring6", "world12"}
    assert {path.stem for path in BUILTIN.glob("*.yml")} == shipped == set(builtin())
