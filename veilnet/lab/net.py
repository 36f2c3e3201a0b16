# SPDX-License-Identifier: Apache-2.0
"""Namespaces, veth pairs, bridges, addresses and routes of a lab.

Each link is a veth pair, or two with a wire's namespace between; each network is a bridge in a namespace of its own.
The management network is a bridge like that; the Master is on it, and no VeilNet data flows there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from veilnet.lab.journal import LabError
from veilnet.lab.topology import MANAGEMENT, Link, Network, Topology
from veilnet.lab.topology.routes import Routing

NETNS_DIR = Path("/run/netns")
MGMT = "mgmt"
LIGHT = "light"
"""Where all light nodes live."""
MGMT_NIC = "mgmt0"

# An XDP program sees frames as the sender's stack built them: else the veth hands over unfinished checksums and
# 64 KB super-frames that no wire carries. IPv6's own chatter on the underlay is nothing a lab asks for.
_PREPARE = """
set -e
c=net.ipv6.conf.$1
# a device with an MTU below 1280 has no IPv6 to switch off
[ ! -e /proc/sys/net/ipv6/conf/$1 ] ||
    sysctl -qw $c.accept_ra=0 $c.accept_dad=0 $c.disable_ipv6=$2
sysctl -qw net.ipv4.conf.$1.rp_filter=0
ethtool -K $1 tx off tso off tx-udp-segmentation off gro on >/dev/null
"""
_FORWARD = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0"


def namespace(lab: str, node: str) -> str:
    return f"veil-{lab}-{node}"


def spaces(topology: Topology) -> list[str]:
    """What has a namespace of its own, the management network first."""
    nodes = [node.name for node in topology.nodes.values() if not node.light]
    networks = [network.name for network in topology.networks]
    return [MGMT, *([LIGHT] if topology.light else []), *nodes, *networks, *(link.wire for link in topology.wired)]


def nic(peer: str) -> str:
    """Name of the NIC that leads to `peer`, a node or a network."""
    return f"u-{peer}"


def run(command: list[str], text: str | None = None, env: dict[str, str] | None = None) -> None:
    """Raises LabError with what the command said, or that it is not installed."""
    try:
        done = subprocess.run(
            command, input=text, check=False, capture_output=True, text=True, env=os.environ | (env or {})
        )
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is not installed: run `sudo ./run setup`") from error
    if done.returncode:
        raise LabError(f"{' '.join(command).partition(chr(10))[0]}: {(done.stderr or done.stdout).strip()}")


def ip(name: str, *lines: str) -> None:
    """`ip` commands inside a namespace, in one process. Not pyroute2's NetNS: it forks, and an error in its child
    unwinds through our stack there, clean-up included."""
    run(["ip", "-n", name, "-batch", "-"], "".join(f"{line}\n" for line in lines))


def ports(name: str) -> list[dict[str, Any]]:
    """Devices of a namespace as `ip -j link` has them."""
    done = subprocess.run(["ip", "-n", name, "-j", "link"], check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def create_namespace(name: str) -> None:
    run(["ip", "netns", "add", name])
    ip(name, "link set lo up")


def remove_namespace(name: str) -> None:
    """Remove the name; devices go with it once no process is left inside."""
    if (NETNS_DIR / name).exists():
        subprocess.run(["ip", "netns", "delete", name], check=True)


def in_namespace(name: str) -> list[str]:
    """Command prefix. Not `ip netns exec`: that mounts a new /sys and so hides bpffs and its pins."""
    return ["nsenter", f"--net={NETNS_DIR / name}", "--"]


def build_management(lab: str, topology: Topology) -> None:
    """Bridge in its own namespace and one veth to each node, Master included; light nodes share one."""
    home = namespace(lab, MGMT)
    ip(home, "link add br0 type bridge mcast_snooping 0", "link set br0 up")
    for node in topology.nodes.values():
        if not node.light:
            _join_management(home, namespace(lab, node.name), node.name, [f"{node.management}/{MANAGEMENT.prefixlen}"])
    if topology.light:
        addresses = [f"{node.management}/{MANAGEMENT.prefixlen}" for node in topology.light]
        _join_management(home, namespace(lab, LIGHT), LIGHT, addresses)


def _join_management(home: str, name: str, label: str, addresses: list[str]) -> None:
    port = f"m-{label}"
    ip(
        home,
        f"link add name {port} type veth peer name {MGMT_NIC} netns {name}",
        f"link set dev {port} master br0 up",
    )
    ip(name, *(f"address add {each} dev {MGMT_NIC}" for each in addresses), f"link set dev {MGMT_NIC} up")


def build_network(lab: str, network: Network) -> None:
    """The segment's bridge; its legs are built as links."""
    _bridge(namespace(lab, network.name), network.mtu)


def _bridge(home: str, mtu: int) -> None:
    run([*in_namespace(home), "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
    ip(home, f"link add br0 mtu {mtu} type bridge mcast_snooping 0", "link set br0 up")


def build_link(lab: str, link: Link, topology: Topology, *, by_netem: bool = False) -> None:
    """veth pair between two ends, ready for XDP in driver mode, addressed and up; a wire's ports between if it has one.

    An emulated wire's ports are joined by nothing yet; those that netem is for, by a bridge.
    """
    places = {end: _place(lab, link, end, topology) for end in link.ends}
    if link.wire:
        _wire(lab, link, places, bridged=by_netem or not link.emulated)
    else:
        (here, device), (there, peer) = places.values()
        _veth(here, device, there, peer, link.mtu)
    for end, (name, device) in places.items():
        _prepare(name, device, ipv6=len(link.subnets) > 1 and end in topology.nodes)
        if end in topology.nodes:
            lines = [f"address add {text} dev {device}" for text in _addresses(link, end)]
            ip(name, *lines, f"link set dev {device} up")
        else:
            ip(name, f"link set dev {device} master br0 up")


def _addresses(link: Link, end: str) -> Iterable[str]:
    for address, subnet in zip(link.addresses_of(end), link.subnets, strict=True):
        yield f"{address}/{subnet.prefixlen}" + (" nodad" if address.version == 6 else "")


def _place(lab: str, link: Link, end: str, topology: Topology) -> tuple[str, str]:
    """(namespace, device) of one end; a network's port is named after the node that it leads to."""
    return namespace(lab, end), nic(link.other(end)) if end in topology.nodes else link.other(end)


def _veth(here: str, device: str, there: str, peer: str, mtu: int) -> None:
    ip(here, f"link add name {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {there}")


def _wire(lab: str, link: Link, places: dict[str, tuple[str, str]], *, bridged: bool) -> None:
    """Ports named after the ends, on a bridge unless an emulator is to join them."""
    home = namespace(lab, link.wire)
    if bridged:
        _bridge(home, link.mtu)
    else:
        run([*in_namespace(home), "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
    for end, (name, device) in places.items():
        _veth(home, end, name, device, link.mtu)
        _prepare(home, end, ipv6=False)
        ip(home, f"link set dev {end} {'master br0' if bridged else ''} up")


def _prepare(name: str, device: str, *, ipv6: bool) -> None:
    run([*in_namespace(name), "sh", "-c", _PREPARE, "prepare", device, "0" if ipv6 else "1"])


def pass_redirected(lab: str, topology: Topology, temporary: Path) -> None:
    """A program on every port that faces a member's NIC and has none of VeilNet's: else redirected frames are lost."""
    places = []
    for link in topology.every_link:
        for end in link.ends:
            if end in topology.nodes and topology.nodes[end].member:
                places += _facing(lab, link, end, topology)
    if places:
        home = in_namespace(namespace(lab, MGMT))  # where `down` finds it, should we be killed meanwhile
        run([*home, sys.executable, "-P", "-m", "veilnet.lab.xdp_pass", *places], env={"TMPDIR": str(temporary)})


def _facing(lab: str, link: Link, end: str, topology: Topology) -> list[str]:
    if link.wire:
        return [f"{NETNS_DIR / namespace(lab, link.wire)}/{end}"]
    other = link.other(end)
    if other in topology.nodes and topology.nodes[other].member:
        return []
    name, device = _place(lab, link, other, topology)
    return [f"{NETNS_DIR / name}/{device}"]


def build_routes(lab: str, topology: Topology) -> None:
    """Forwarding on routers and NATs, and every node's routes."""
    routing = Routing(topology)
    for node in topology.nodes.values():
        name = namespace(lab, node.name)
        if node.forwards:
            run([*in_namespace(name), "sh", "-c", _FORWARD])
        lines = [
            f"route add {route.to or 'default'} via {route.via} dev {nic(route.far)}"
            for route in routing.routes(node.name)
        ]
        if lines:
            ip(name, *lines)
