# SPDX-License-Identifier: Apache-2.0
"""Namespaces, veth pairs, addresses and routes of a lab.

Each underlay link is a veth pair with a /30 of its own; nothing forwards, so a node reaches its neighbours only.
The management network is a bridge in a namespace of its own; the Master is on it, and no VeilNet data flows there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from veilnet.lab.journal import LabError
from veilnet.lab.topology import Link, Topology

NETNS_DIR = Path("/run/netns")
MGMT = "mgmt"
MGMT_NIC = "mgmt0"
UNDERLAY_MTU = 1500

# An XDP program sees frames as the sender's stack built them: else the veth hands over unfinished checksums and
# 64 KB super-frames that no wire carries. IPv6's own chatter on the underlay is nothing a lab asks for.
_PREPARE = """
set -e
sysctl -qw net.ipv6.conf.$1.disable_ipv6=1 net.ipv4.conf.$1.rp_filter=0
ethtool -K $1 tx off tso off tx-udp-segmentation off gro on >/dev/null
"""


def namespace(lab: str, node: str) -> str:
    return f"veil-{lab}-{node}"


def nic(peer: str) -> str:
    """Name of the NIC that leads to `peer`."""
    return f"u-{peer}"


def _ip(name: str, *lines: str) -> None:
    """`ip` commands inside a namespace, in one process. Not pyroute2's NetNS: it forks, and an error in its child
    unwinds through our stack there, clean-up included."""
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(["ip", "-n", name, "-batch", "-"], input=text, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"ip -n {name}: {done.stderr.strip()}"
        raise LabError(msg)


def create_namespace(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    _ip(name, "link set lo up")


def remove_namespace(name: str) -> None:
    """Remove the name; devices go with it once no process is left inside."""
    if (NETNS_DIR / name).exists():
        subprocess.run(["ip", "netns", "delete", name], check=True)


def in_namespace(name: str) -> list[str]:
    """Command prefix. Not `ip netns exec`: that mounts a new /sys and so hides bpffs and its pins."""
    return ["nsenter", f"--net={NETNS_DIR / name}", "--"]


def build_management(lab: str, topology: Topology) -> None:
    """Bridge in its own namespace and one veth to each node, Master included."""
    home = namespace(lab, MGMT)
    _ip(home, "link add br0 type bridge", "link set br0 up")
    for node in topology.nodes.values():
        port, name = f"m-{node.name}", namespace(lab, node.name)
        _ip(
            home,
            f"link add name {port} type veth peer name {MGMT_NIC} netns {name}",
            f"link set dev {port} master br0 up",
        )
        _ip(name, f"address add {node.management}/24 dev {MGMT_NIC}", f"link set dev {MGMT_NIC} up")


def build_link(lab: str, link: Link) -> None:
    """veth pair between two nodes, ready for XDP in driver mode on both ends."""
    first, second = link.ends
    if link.wire:
        _wire(lab, link)
    else:
        _veth(namespace(lab, first), nic(second), namespace(lab, second), nic(first))
    for here, there in (link.ends, link.ends[::-1]):
        name, device = namespace(lab, here), nic(there)
        _prepare(name, device)
        _ip(name, f"address add {link.address(here)}/{link.subnet.prefixlen} dev {device}", f"link set dev {device} up")


def _veth(here: str, device: str, there: str, peer: str) -> None:
    mtu = f"mtu {UNDERLAY_MTU}"
    _ip(here, f"link add name {device} {mtu} type veth peer name {peer} {mtu} netns {there}")


def _wire(lab: str, link: Link) -> None:
    """Bridge between the ends, ports named after them; without XDP on the ports redirected frames would be lost."""
    home = namespace(lab, link.wire)
    _ip(home, "link add br0 type bridge", "link set br0 up")
    for here, there in (link.ends, link.ends[::-1]):
        _veth(home, here, namespace(lab, here), nic(there))
        _prepare(home, here)
        _ip(home, f"link set dev {here} master br0 up")
    subprocess.run([*in_namespace(home), sys.executable, "-m", "veilnet.lab.xdp_pass", *link.ends], check=True)


def _prepare(name: str, device: str) -> None:
    subprocess.run([*in_namespace(name), "sh", "-c", _PREPARE, "prepare", device], check=True)
