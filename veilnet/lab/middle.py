# SPDX-License-Identifier: Apache-2.0
"""What stands between VeilNet's nodes: emulated wires, NATs and firewalls of a lab, as its topology asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veilnet.lab import nat, wire
from veilnet.lab.nat.run import run
from veilnet.lab.net import nic
from veilnet.lab.topology import Link, Node, Topology
from veilnet.lab.topology.model import Direction
from veilnet.lab.wire import netem
from veilnet.lab.wire.build import compiled

if TYPE_CHECKING:
    from veilnet.lab.lab import Lab

_FILTER = """
table inet veilnet_filter {
    chain forward {
        type filter hook forward priority filter;
        iifname "%s" ct state new drop
    }
}
"""


def check(topology: Topology, *, by_netem: bool = False) -> None:
    """Refuse, before anything is made, what can't be had. Raises LabError."""
    if by_netem:
        netem.require()
    for link in topology.wired:
        for direction in link.directions:
            (netem.check if by_netem else wire.impairment)(direction)
    if not by_netem and any(link.emulated for link in topology.wired):
        compiled("emulator")
    for node in topology.with_role("nat"):
        nat_kind(node, topology.seed)


def start(lab: Lab, topology: Topology) -> None:
    """Wires first, then what translates and refuses."""
    for link in topology.wired:
        if link.emulated:
            (netem.start if lab.by_netem else wire.start)(lab.namespace(link.wire), wire_spec(lab, link))
    for node in topology.nodes.values():
        if node.role == "nat":
            _start_nat(lab, topology, node)
        elif node.role == "router":
            _start_firewall(lab, node)


def wire_spec(lab: Lab, link: Link) -> wire.WireSpec:
    """One emulator serves all wires of a lab."""
    log = lab.directory / "wire.log"
    return wire.WireSpec(link.ends, link.directions, lab.topology.seed, lab.control("wire"), log)


def change(lab: Lab, link: Link, index: int, wanted: Direction, *, blackhole: bool = False) -> None:
    """Change one direction of an emulated link at run time. Raises LabError."""
    spec = wire_spec(lab, link)
    if lab.by_netem:
        netem.change(lab.namespace(link.wire), spec, index, wanted, blackhole=blackhole)
    else:
        wire.change(spec, index, wanted, blackhole=blackhole)


def settings(lab: Lab, topology: Topology) -> dict[str, list[dict[str, Any]]]:
    """What each emulated link does now, by direction."""
    links = [link for link in topology.wired if link.emulated]
    if lab.by_netem:
        return {link.name: netem.settings(lab.namespace(link.wire), wire_spec(lab, link)) for link in links}
    if not links:
        return {}
    with wire.Control(lab.control("wire")) as control:
        return {link.name: [control.settings(link.name, index) for index in (0, 1)] for link in links}


def counters(lab: Lab, topology: Topology) -> dict[str, dict[str, int]]:
    """Of each direction `a->b` of each emulated link: frames and bits that left, and frames dropped by reason."""
    ways = [
        ("->".join(ends), link, index)
        for link in topology.wired
        if link.emulated
        for index, ends in enumerate((link.ends, link.ends[::-1]))
    ]
    if lab.by_netem:
        return {
            name: netem.counters(lab.namespace(link.wire), wire_spec(lab, link), index) for name, link, index in ways
        }
    if not ways:
        return {}
    with wire.Control(lab.control("wire")) as control:
        return {name: _numbers(control.counters(link.name, index)) for name, link, index in ways}


def _numbers(row: wire.Counters) -> dict[str, int]:
    return {"frames": row.frames_out, "bits": 8 * row.bytes_out, "overrun": row.overrun} | row.dropped


def nat_kind(node: Node, seed: int) -> nat.NatKind:
    """A node's NAT as the translator takes it."""
    assert node.nat
    return nat.NatKind(
        nat.Dependence(node.nat.mapping),
        nat.Dependence(node.nat.filtering),
        nat.Ports(node.nat.ports),
        hairpin=node.nat.hairpin,
        udp_timeout=node.nat.timeout,
        seed=seed + node.number,
        firewall=firewall(node),
    )


def firewall(node: Node) -> nat.Firewall:
    said = node.firewall
    return nat.Firewall(udp=said.udp == "open", icmp=said.icmp != "blocked", icmp_errors=said.icmp == "open")


def _start_nat(lab: Lab, topology: Topology, node: Node) -> None:
    lab.journal.add("nat", lab.namespace(node.name))
    apply_nat(lab, topology, node)


def apply_nat(lab: Lab, topology: Topology, node: Node) -> None:
    """Make a node the NAT of the file, or once more after its kind or timeouts were changed."""
    links = {link.other(node.name): link for link in topology.links_of(node.name)}
    inside = [nic(far) for far in links if far != node.outside]
    public = links[node.outside].address(node.name)
    nat.apply(lab.namespace(node.name), inside, nic(node.outside), public, nat_kind(node, topology.seed))


def _start_firewall(lab: Lab, node: Node) -> None:
    if firewall(node) != nat.Firewall():
        nat.block(lab.namespace(node.name), firewall(node))
    if node.firewall.filtering != "endpoint-independent":
        run(lab.namespace(node.name), "nft", "-f", "-", text=_FILTER % nic(node.outside))


def remove_nat(namespace: str) -> None:
    """What a translator has outside its namespace. Idempotent."""
    nat.remove(namespace)
