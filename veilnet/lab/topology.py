# SPDX-License-Identifier: Apache-2.0
"""A lab's topology: nodes and underlay links from a YAML file, refused with file, line and path when it is wrong.

name: pair                        # [a-z][a-z0-9]{0,7}
nodes:
  master: {role: master}          # exactly one
  c1: {role: conflux}             # roles: master, guardian, conflux
  c2: {role: conflux}
links:
  - [c1, c2]                      # a veth pair; the Master has none, it lives on the management network
  - {ends: [c1, g1], wire: true}  # through a bridge in a namespace of its own, where frames can be seen and injected
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import yaml

ROLES = ("master", "guardian", "conflux")
MAX_NODES = 200
UNDERLAY = IPv4Network("10.77.0.0/16")  # a /30 a link
BUILTIN = Path(__file__).parent / "topologies"
_NAME = re.compile(r"[a-z][a-z0-9]{0,7}\Z")  # an interface name is "u-" and a node name, a namespace's has two of them


class TopologyError(ValueError):
    """The file is not a topology; the message starts with file:line and the path of the offending entry."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    role: str
    number: int
    """1, 2, ... in the order of the file."""

    @property
    def management(self) -> IPv4Address:
        """Address on the management network 10.76.0.0/24."""
        return IPv4Address("10.76.0.0") + self.number


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair between two nodes, with a subnet of its own."""

    ends: tuple[str, str]
    subnet: IPv4Network
    wire: str = ""
    """Name of the namespace between the ends, empty for a plain veth pair."""

    def address(self, name: str) -> IPv4Address:
        """Underlay address of one end."""
        return self.subnet[1 + self.ends.index(name)]

    def other(self, name: str) -> str:
        return self.ends[1 - self.ends.index(name)]


@dataclass(frozen=True, slots=True)
class Topology:
    name: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]

    @property
    def master(self) -> Node:
        return next(node for node in self.nodes.values() if node.role == "master")

    @property
    def members(self) -> list[Node]:
        """Every node but the Master."""
        return [node for node in self.nodes.values() if node.role != "master"]

    def with_role(self, role: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.role == role]

    def neighbours(self, name: str) -> list[str]:
        return [link.other(name) for link in self.links_of(name)]

    def links_of(self, name: str) -> list[Link]:
        return [link for link in self.links if name in link.ends]


def load(name_or_path: str) -> Topology:
    """Topology by the name of a built-in one, or by path. Raises TopologyError."""
    return parse(*read(name_or_path))


def read(name_or_path: str) -> tuple[str, str]:
    """(text, path) of a topology by the name of a built-in one, or by path. Raises TopologyError."""
    builtin = BUILTIN / f"{name_or_path}.yml"
    path = builtin if "/" not in name_or_path and builtin.is_file() else Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in BUILTIN.glob("*.yml")))
        msg = f"{path}: {error.strerror}; built-in topologies are {known}"
        raise TopologyError(msg) from error


def parse(text: str, source: str = "topology") -> Topology:
    """Topology from YAML text. Raises TopologyError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        msg = f"{source}:{line}: not YAML: {error.problem}"
        raise TopologyError(msg) from error
    return _Parser(source).topology(root)


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, node: yaml.Node | None, path: str, why: str) -> TopologyError:
        line = node.start_mark.line + 1 if node else 1
        return TopologyError(f"{self.source}:{line}: {path}: {why}")

    def topology(self, root: yaml.Node | None) -> Topology:
        parts = self.mapping(root, "topology", ("name", "nodes", "links"))
        name = self.text(parts["name"], "name")
        nodes = self.nodes(parts["nodes"])
        return Topology(name, nodes, self.links(parts["links"], nodes))

    def nodes(self, value: yaml.Node) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for key, body in self.pairs(value, "nodes"):
            name = self.text(key, "nodes")
            if name == "mgmt" or name.startswith("wire"):
                raise self.fail(key, f"nodes.{name}", "the name belongs to the lab's own namespaces")
            nodes[name] = Node(name, self.role(body, f"nodes.{name}"), len(nodes) + 1)
        masters = sum(node.role == "master" for node in nodes.values())
        if masters != 1:
            raise self.fail(value, "nodes", f"exactly one node has role master, here {masters}")
        if len(nodes) > MAX_NODES:
            raise self.fail(value, "nodes", f"at most {MAX_NODES}, here {len(nodes)}")
        return nodes

    def role(self, body: yaml.Node, path: str) -> str:
        value = self.mapping(body, path, ("role",))["role"]
        if not isinstance(value, yaml.ScalarNode) or value.value not in ROLES:
            raise self.fail(value, f"{path}.role", f"one of {', '.join(ROLES)}")
        return str(value.value)

    def links(self, value: yaml.Node, nodes: dict[str, Node]) -> tuple[Link, ...]:
        if not isinstance(value, yaml.SequenceNode):
            raise self.fail(value, "links", "a list of [node, node]")
        links: list[Link] = []
        for index, item in enumerate(value.value):
            path = f"links[{index}]"
            pair, wired = self.link(item, path)
            ends = self.ends(pair, path, nodes)
            if any(set(ends) == set(seen.ends) for seen in links):
                raise self.fail(item, path, f"duplicate link {ends[0]} - {ends[1]}")
            links.append(Link(ends, IPv4Network((int(UNDERLAY[4 * index]), 30)), f"wire{index}" if wired else ""))
        return tuple(links)

    def link(self, item: yaml.Node, path: str) -> tuple[yaml.Node, bool]:
        """(the two ends, wired) of either form of a link."""
        if not isinstance(item, yaml.MappingNode):
            return item, False
        parts = self.mapping(item, path, ("ends", "wire"))
        wire = parts["wire"]
        if not isinstance(wire, yaml.ScalarNode) or wire.value not in {"true", "false"}:
            raise self.fail(wire, f"{path}.wire", "true or false")
        return parts["ends"], wire.value == "true"

    def ends(self, item: yaml.Node, path: str, nodes: dict[str, Node]) -> tuple[str, str]:
        if not isinstance(item, yaml.SequenceNode) or len(item.value) != 2:
            raise self.fail(item, path, "a link is [node, node]")
        first, second = (self.text(end, path) for end in item.value)
        for end, name in zip(item.value, (first, second), strict=True):
            if name not in nodes:
                raise self.fail(end, path, f"link to nowhere: no node {name!r}")
            if nodes[name].role == "master":
                raise self.fail(end, path, "the Master carries no VeilNet traffic and has no links")
        if first == second:
            raise self.fail(item, path, f"link from {first} to itself")
        return first, second

    def mapping(self, value: yaml.Node | None, path: str, keys: tuple[str, ...]) -> dict[str, yaml.Node]:
        found: dict[str, yaml.Node] = {}
        for key, body in self.pairs(value, path):
            if key.value not in keys:
                raise self.fail(key, path, f"unknown key {key.value!r}; known: {', '.join(keys)}")
            found[key.value] = body
        for name in keys:
            if name not in found:
                raise self.fail(value, path, f"missing key {name!r}")
        return found

    def pairs(self, value: yaml.Node | None, path: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(value, yaml.MappingNode):
            raise self.fail(value, path, "a mapping")
        seen: set[str] = set()
        for key, body in value.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail(key, path, "a key is a word")
            if key.value in seen:
                raise self.fail(key, path, f"duplicate key {key.value!r}")
            seen.add(key.value)
            yield key, body

    def text(self, value: yaml.Node, path: str) -> str:
        if not isinstance(value, yaml.ScalarNode) or not _NAME.match(value.value):
            raise self.fail(value, path, "a name is a letter a-z, then at most 7 of a-z and 0-9")
        return str(value.value)
