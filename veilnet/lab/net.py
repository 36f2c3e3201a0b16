# SPDX-License-Identifier: Apache-2.0
"""Namespaces, veth pairs, addresses and routes of a lab.

Each underlay link is a veth pair with a /30 of its own; nothing forwards, so a node reaches its neighbours only.
The management network is a bridge in a namespace of its own; the Master is on it, and no VeilNet data flows there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pyroute2 import NetNS, netns

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


def create_namespace(name: str) -> None:
    netns.create(name)
    with NetNS(name) as handle:
        handle.link("set", index=1, state="up")


def remove_namespace(name: str) -> None:
    """Remove the name; devices go with it once no process is left inside."""
    if (NETNS_DIR / name).exists():
        netns.remove(name)


def in_namespace(name: str) -> list[str]:
    """Command prefix. Not `ip netns exec`: that mounts a new /sys and so hides bpffs and its pins."""
    return ["nsenter", f"--net={NETNS_DIR / name}", "--"]


def build_management(lab: str, topology: Topology) -> None:
    """Bridge in its own namespace and one veth to each node, Master included."""
    home = namespace(lab, MGMT)
    with NetNS(home) as handle:
        handle.link("add", ifname="br0", kind="bridge")
        bridge = handle.link_lookup(ifname="br0")[0]
        handle.link("set", index=bridge, state="up")
        for node in topology.nodes.values():
            peer = {"ifname": MGMT_NIC, "net_ns_fd": namespace(lab, node.name)}
            handle.link("add", ifname=f"m-{node.name}", kind="veth", peer=peer)
            port = handle.link_lookup(ifname=f"m-{node.name}")[0]
            handle.link("set", index=port, master=bridge, state="up")
    for node in topology.nodes.values():
        _address(namespace(lab, node.name), MGMT_NIC, str(node.management), 24)


def build_link(lab: str, link: Link) -> None:
    """veth pair between two nodes, ready for XDP in driver mode on both ends."""
    first, second = link.ends
    if link.wire:
        _wire(lab, link)
    else:
        _veth(namespace(lab, first), nic(second), namespace(lab, second), nic(first))
    for here, there in ((first, second), (second, first)):
        name = namespace(lab, here)
        subprocess.run([*in_namespace(name), "sh", "-c", _PREPARE, "prepare", nic(there)], check=True)
        _address(name, nic(there), str(link.address(here)), link.subnet.prefixlen)


def _veth(here: str, device: str, there: str, peer: str) -> None:
    with NetNS(here) as handle:
        other = {"ifname": peer, "net_ns_fd": there, "mtu": UNDERLAY_MTU}
        handle.link("add", ifname=device, kind="veth", mtu=UNDERLAY_MTU, peer=other)


def _wire(lab: str, link: Link) -> None:
    """Bridge between the ends, ports named after them; without XDP on the ports redirected frames would be lost."""
    home = namespace(lab, link.wire)
    for here, there in (link.ends, link.ends[::-1]):
        _veth(home, here, namespace(lab, here), nic(there))
    with NetNS(home) as handle:
        handle.link("add", ifname="br0", kind="bridge")
        bridge = handle.link_lookup(ifname="br0")[0]
        for end in link.ends:
            handle.link("set", index=handle.link_lookup(ifname=end)[0], master=bridge, state="up")
        handle.link("set", index=bridge, state="up")
    for end in link.ends:
        subprocess.run([*in_namespace(home), "sh", "-c", _PREPARE, "prepare", end], check=True)
    subprocess.run([*in_namespace(home), sys.executable, "-m", "veilnet.lab.wire", *link.ends], check=True)


def _address(name: str, device: str, address: str, length: int) -> None:
    with NetNS(name) as handle:
        index = handle.link_lookup(ifname=device)[0]
        handle.addr("add", index=index, address=address, prefixlen=length)
        handle.link("set", index=index, state="up")
