# SPDX-License-Identifier: Apache-2.0
"""A topology from its file: the words are checked first (`language`), then what they say (`Reading`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from veilnet.lab.topology import shapes, units
from veilnet.lab.topology.addressing import Draft, Numbering
from veilnet.lab.topology.items import Item, TopologyError
from veilnet.lab.topology.language import MAX_NODES, NAME, TOPOLOGY
from veilnet.lab.topology.matrix import Matrix, MatrixError, from_csv, from_npz, one_way_ms
from veilnet.lab.topology.model import DEFAULT_MTU, TIMEOUT, XDP_MTU_MAX, Direction, Firewall, Nat, Node, Topology

BUILTIN = Path(__file__).parents[1] / "topologies"
RESERVED = ("mgmt", "light")
ReadFile = Callable[[str], bytes]


def load(name_or_path: str) -> Topology:
    """Topology by the name of a built-in one, or by path. Raises TopologyError."""
    return parse(*read(name_or_path))


def builtin() -> list[str]:
    return sorted(path.stem for path in BUILTIN.glob("*.yml"))


def read(name_or_path: str) -> tuple[str, str]:
    """(text, path) of a topology by the name of a built-in one, or by path. Raises TopologyError."""
    shipped = BUILTIN / f"{name_or_path}.yml"
    path = shipped if "/" not in name_or_path and shipped.is_file() else Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError as error:
        raise TopologyError(f"{path}:1: not a text in UTF-8") from error
    except OSError as error:
        raise TopologyError(f"{path}: {error.strerror}; built-in topologies are {', '.join(builtin())}") from error


def parse(text: str, source: str = "topology", read_file: ReadFile | None = None) -> Topology:
    """Topology from YAML text. Raises TopologyError.

    `read_file` reads the files that it names; by default they are looked for beside `source`.
    """
    root = Item.document(text, source)
    TOPOLOGY.check(root)
    return _Reading(root, read_file or (lambda name: (Path(source).parent / name).read_bytes())).topology()


class _Reading:
    def __init__(self, root: Item, read_file: ReadFile) -> None:
        self.root, self.read_file = root, read_file
        self.nodes: dict[str, Node] = {}
        self.drafts: list[Draft] = []

    def topology(self) -> Topology:
        self._read_nodes()
        self._read_links()
        self._read_matrix()
        self._read_networks()
        numbering = Numbering(self.root, self.nodes, self.drafts)
        links, networks = numbering.links(), numbering.networks()
        seed = self.root.get("seed")
        topology = Topology(self.root["name"].text, self.nodes, links, networks, (), seed.number if seed else 1)
        return Topology(topology.name, self.nodes, links, networks, self._edges(topology), topology.seed)

    # ---- nodes ----------------------------------------------------------------------------------------------------

    def _read_nodes(self) -> None:
        listed = self.root["nodes"]
        for name, item in listed.entries.items():
            key = listed.keys[name]
            count = item.get("count")
            if count and not self._flag(item, "light"):
                raise count.error("only light nodes are counted; give each other node a name of its own")
            for each in [name] if count is None else [f"{name}{index + 1}" for index in range(count.number)]:
                self._add_node(each, item, key)
        masters = sum(node.role == "master" for node in self.nodes.values())
        if masters != 1:
            raise listed.error(f"exactly one node has role master, here {masters}")
        if len(self.nodes) > MAX_NODES:
            raise listed.error(f"at most {MAX_NODES}, here {len(self.nodes)}")

    def _add_node(self, name: str, item: Item, key: Item) -> None:
        if name in RESERVED or name.startswith("wire"):
            raise _at(key, f"nodes.{name}").error("the name belongs to the lab's own namespaces")
        if name in self.nodes or len(name) > 8:
            raise _at(key, f"nodes.{name}").error("duplicate name" if name in self.nodes else NAME.what)
        role, outside = item["role"].text, item.get("outside")
        self.nodes[name] = Node(
            name,
            role,
            len(self.nodes) + 1,
            nat=_nat(item) if role == "nat" else None,
            firewall=_firewall(item),
            outside=outside.text if outside else "",
            light=self._flag(item, "light"),
        )

    @staticmethod
    def _flag(item: Item, name: str) -> bool:
        found = item.get(name)
        return found is not None and found.value is True

    def _node(self, item: Item) -> Node:
        """The node that an item names as an end of a link."""
        node = self.nodes.get(item.text)
        if node is None:
            raise item.error(f"link to nowhere: no node {item.text!r}")
        if node.role == "master":
            raise item.error("the Master carries no VeilNet traffic and has no links")
        if node.light:
            raise item.error(f"{item.text} is a light node and has no links")
        return node

    # ---- links ----------------------------------------------------------------------------------------------------

    def _read_links(self) -> None:
        found = self.root.get("links")
        for item in found.elements if found else []:
            pair = item["ends"] if isinstance(item.value, dict) else item
            first, second = (self._node(end).name for end in pair.elements)
            if first == second:
                raise _at(pair, item.path).error(f"link from {first} to itself")
            draft = Draft(item, (first, second), mtu=DEFAULT_MTU)
            if isinstance(item.value, dict):
                draft.wired = self._flag(item, "wire")
                draft.directions = shapes.directions(item, draft.ends)
                draft.mtu = self._mtu(item, draft.ends)
            self._add(draft)

    def _add(self, draft: Draft) -> None:
        if any(set(draft.ends) == set(seen.ends) for seen in self.drafts):
            raise draft.item.error(f"duplicate link {draft.ends[0]} - {draft.ends[1]}")
        self.drafts.append(draft)

    def _mtu(self, item: Item, nodes: tuple[str, ...]) -> int:
        found = item.get("mtu")
        if found is None:
            return DEFAULT_MTU
        members = [name for name in nodes if self.nodes[name].member]
        if members and found.number > XDP_MTU_MAX:
            why = f"{members[0]} attaches XDP in driver mode there, which a veth pair takes up to {XDP_MTU_MAX} only"
            raise found.error(why)
        return found.number

    def _read_matrix(self) -> None:
        item = self.root.get("matrix")
        if item is None:
            return
        matrix, wear = self._matrix(item), shapes.wear(item)
        places = [(self._node(item["nodes"].keys[name]).name, place) for name, place in item["nodes"].entries.items()]
        values = item.get("values")
        rtt = values is None or values.text == "rtt"
        for index, (first, here) in enumerate(places):
            for second, there in places[index + 1 :]:
                try:
                    delays = one_way_ms(matrix, here.text, there.text, rtt=rtt)
                except MatrixError as error:
                    raise item["nodes"].error(f"{item['file'].text}: {error}") from error
                mtu = self._mtu(item, (first, second))
                self._add(Draft(item, (first, second), mtu=mtu, directions=_delayed(wear, delays, item)))

    def _matrix(self, item: Item) -> Matrix:
        name, slot, array = item["file"], item.get("slot"), item.get("array")
        try:
            data = self.read_file(name.text)
            if name.text.endswith(".npz"):
                return from_npz(data, array.text if array else "rtt_ms", slot.number if slot else 0)
            return from_csv(data)
        except OSError as error:
            raise name.error(f"{name.text}: {error.strerror}") from error
        except MatrixError as error:
            raise name.error(f"{name.text}: {error}") from error

    # ---- networks -------------------------------------------------------------------------------------------------

    def _read_networks(self) -> None:
        found = self.root.get("networks")
        for name, item in found.entries.items() if found else ():
            if name in self.nodes or name in RESERVED or name.startswith("wire"):
                raise item.error("the name is taken by a node or by the lab's own namespaces")
            nodes = item["nodes"]
            full = isinstance(nodes.value, dict)
            names = [self._node(key).name for key in (nodes.keys.values() if full else nodes.elements)]
            if len(set(names)) < len(names):
                raise nodes.error("a node is named twice")
            mtu = self._mtu(item, tuple(names))
            for node in names:
                leg = nodes[node] if full else None
                both = shapes.leg(leg) if leg else (Direction(), Direction())
                self._add(Draft(item, (node, name), mtu=mtu, directions=both, network=True))

    def _edges(self, topology: Topology) -> tuple[tuple[str, str], ...]:
        """Those that the file gives, else neighbours by a link or a network."""
        found = self.root.get("edges")
        if found is None:
            return _adjacent(topology)
        edges: list[tuple[str, str]] = []
        for item in found.elements:
            for end in item.elements:
                if end.text not in self.nodes or not self.nodes[end.text].member:
                    raise end.error(f"no guardian or conflux {end.text!r}")
            first, second = (end.text for end in item.elements)
            if first == second or {first, second} in map(set, edges):
                raise item.error(f"edge {first} - {second} leads nowhere new")
            edges.append((first, second))
        return tuple(edges)


def _at(item: Item, path: str) -> Item:
    item.path = path
    return item


def _adjacent(topology: Topology) -> tuple[tuple[str, str], ...]:
    pairs = [link.ends for link in topology.links]
    for network in topology.networks:
        nodes = network.nodes
        pairs += [(first, second) for index, first in enumerate(nodes) for second in nodes[index + 1 :]]
    members = [pair for pair in pairs if all(topology.nodes[end].member for end in pair)]
    return tuple(dict.fromkeys(members))


def _delayed(wear: Direction, delays: tuple[float, float], item: Item) -> tuple[Direction, Direction]:
    changed = [shapes.check(shapes.with_delay(wear, round(milliseconds / 1000, 9)), item) for milliseconds in delays]
    return changed[0], changed[1]


def _nat(item: Item) -> Nat:
    timeout, hairpin, ports = item.get("timeout"), item.get("hairpin"), item.get("ports")
    return Nat(
        mapping=item["mapping"].text,  # type: ignore[arg-type]  # one of Behaviour, as the language says
        filtering=item["filtering"].text,  # type: ignore[arg-type]
        timeout=units.seconds(timeout.text) if timeout else TIMEOUT,
        ports=ports.text if ports else "preserve",  # type: ignore[arg-type]
        hairpin=hairpin is not None and hairpin.value is True,
    )


def _firewall(item: Item) -> Firewall:
    said = {name: found.text for name in ("udp", "icmp") if (found := item.get(name))}
    filtering = item.get("filtering")
    if item["role"].text == "router" and filtering:
        said["filtering"] = filtering.text
    return Firewall(**said)  # type: ignore[arg-type]  # values are those of the language
