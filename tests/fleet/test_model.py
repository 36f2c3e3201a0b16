# SPDX-License-Identifier: Apache-2.0
"""The fleet file: what it says, and what is refused with its line and path."""

from __future__ import annotations

import pytest

from veilnet.fleet.model import Fleet, FleetFileError, WantedNode, parse, plain
from veilnet.lab.topology.items import Item

FULL = """\
realm: lab
ipv4_range: 10.9.0.0/16
settings: {min_guardians: 1}
tokens: {expires_in: 7d}
dns: {suffix: lab.test, records: {wiki: [10.0.0.1, "FD00::0:1"]}}
policy:
  default: none
  rules:
    - {name: r, effect: allow, between: ["taint:dev"], and: ["*"]}
  tests:
    - {a: {taints: [dev]}, b: c1, allowed: true}
nodes:
  g1: {roles: [guardian]}
  c1: {roles: [conflux, guardian], taints: [dev, a, dev], labels: {rack: "7"}}
links:
  - [g1, c1]
"""


def test_everything_that_a_file_may_say() -> None:
    assert parse(FULL, "f.yml") == Fleet(
        realm="lab",
        ipv4_range="10.9.0.0/16",
        settings={"min_guardians": 1},
        policy={
            "default": "none",
            "groups": {},
            "rules": [{"name": "r", "effect": "allow", "between": ["taint:dev"], "and": ["*"]}],
            "tests": [{"a": {"name": "", "taints": ["dev"], "worn": None}, "b": "c1", "allowed": True}],
        },
        dns={"suffix": "lab.test", "records": {"wiki": ["10.0.0.1", "fd00::1"]}},
        nodes={
            "g1": WantedNode("g1", ("guardian",)),
            "c1": WantedNode("c1", ("conflux", "guardian"), ("a", "dev"), {"rack": "7"}),
        },
        links=frozenset({("c1", "g1")}),
        token_seconds=7 * 86400,
    )


def test_what_is_not_mentioned_is_not_managed() -> None:
    assert parse("realm: lab", "f.yml") == Fleet("lab")
    assert parse("realm: lab\nlinks: []", "f.yml").links == frozenset()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("nodes: {}", "f.yml:1: fleet: missing key 'realm'"),
        ("realm: Lab", "f.yml:1: realm: a name"),
        ("realm: lab\nnode: {}", "f.yml:2: fleet: unknown key 'node'"),
        ("realm: lab\nsettings: {min_guardian: 1}", "f.yml:2: settings: unknown key 'min_guardian'"),
        ("realm: lab\nnodes:\n  a: {}", "f.yml:3: nodes.a: missing key 'roles'"),
        ("realm: lab\nnodes:\n  a: {roles: [relay]}", "f.yml:3: nodes.a.roles[0]: one of guardian, conflux"),
        ("realm: lab\nnodes:\n  a: {roles: [guardian], taints: [A]}", "f.yml:3: nodes.a.taints[0]: a taint"),
        ("realm: lab\nnodes:\n  a: {roles: [guardian], labels: {x: 7}}", "f.yml:3: nodes.a.labels.x: a label"),
        ("realm: lab\nnodes:\n  a: {roles: [guardian]}\n  a: {roles: [guardian]}", "f.yml:4: nodes: duplicate key 'a'"),
        ("realm: lab\nlinks: [[a, b]]", "f.yml:2: links[0][0]: link to nowhere"),
        ("realm: lab\nnodes: {a: {roles: [guardian]}}\nlinks: [[a, a]]", "f.yml:3: links[0]: link from a to itself"),
        (
            "realm: lab\nnodes: {a: {roles: [guardian]}, b: {roles: [conflux]}}\nlinks: [[a, b],\n  [b, a]]",
            "f.yml:4: links[1]: duplicate link a - b",
        ),
        ("realm: lab\npolicy: {default: open}", "f.yml:2: policy: default is"),
        ("realm: lab\npolicy: [1]", "f.yml:2: policy: not an object"),
        ("realm: lab\ntokens: {expires_in: 1w}", "f.yml:2: tokens.expires_in: a time"),
        ("realm: lab\ndns: {suffix: a b}", "f.yml:2: dns.suffix: a name"),
        ("realm: lab\ndns: {records: {wiki: [10.0.0.256]}}", "f.yml:2: dns.records.wiki[0]: '10.0.0.256'"),
        ("realm: lab\ndns: {records: {wiki: []}}", "f.yml:2: dns.records.wiki: a list of IP addresses"),
        ("realm: [", "f.yml:1: not YAML"),
    ],
)
def test_refusals_name_line_and_path(text: str, where: str) -> None:
    with pytest.raises(FleetFileError) as refused:
        parse(text, "f.yml")
    assert str(refused.value).startswith(where)


def test_plain_values_are_those_of_the_yaml_loader() -> None:
    assert plain(Item.document("a: [1, x, {b: null, c: true}]", "f")) == {"a": [1, "x", {"b": None, "c": True}]}
