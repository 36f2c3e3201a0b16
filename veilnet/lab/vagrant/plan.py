# SPDX-License-Identifier: Apache-2.0
"""What the machines of a lab are, worked out from its topology: all that the Vagrantfile needs, as one JSON object.

{"box", "machines": [{"name", "memory" (MB), "nics": [{"network", "mac", "address", "netmask", "mtu", "queues"}],
"script" (the provisioner, shell)}]}
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from veilnet.lab.journal import LabError
from veilnet.lab.net import nic
from veilnet.lab.topology import MANAGEMENT, Link, Node, Topology
from veilnet.lab.topology.routes import Routing

MEMORY: Final = 512
QUEUES: Final = 4
"""With XDP virtio-net wants a second queue for each of the two CPUs; with 2 the kernel warns of a locked mode."""


def machine(node: str) -> str:
    """Not the node's name alone: vagrant-libvirt takes a name of hexadecimal letters as the start of a machine's id."""
    return f"node-{node}"


def check(topology: Topology) -> None:
    """Refuse, before anything is made, what machines can't show. Raises LabError."""
    for link in topology.every_link:
        if link.emulated:
            raise LabError(f"{link.name}: the vagrant backend has no wire emulator; use --backend netns")
    for node in topology.nodes.values():
        if node.light:
            raise LabError(f"{node.name}: light nodes are no machines; use --backend netns")
        if node.role == "nat" or not node.firewall.open:
            raise LabError(f"{node.name}: the vagrant backend has no NAT and no firewall; use --backend netns")


def plan(lab: str, topology: Topology, box: str) -> dict[str, Any]:
    """Every node but the Master is a machine; the Master is a namespace of the host's."""
    check(topology)
    routing = Routing(topology)
    nodes = [node for node in topology.nodes.values() if node.role != "master"]
    return {"box": box, "machines": [_machine(lab, node, topology, routing) for node in nodes]}


def _machine(lab: str, node: Node, topology: Topology, routing: Routing) -> dict[str, Any]:
    links = topology.links_of(node.name)
    return {
        "name": machine(node.name),
        "memory": MEMORY,
        "nics": [_nic(lab, node, link, topology) for link in links],
        "script": _script(lab, node, links, routing),
    }


def _mac(lab: str, node: Node, far: str) -> str:
    """Locally administered; the same each time."""
    digest = zlib.crc32(f"{lab}/{node.name}/{far}".encode())
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, *digest.to_bytes(4, "big")))


def _nic(lab: str, node: Node, link: Link, topology: Topology) -> dict[str, Any]:
    segment = link.name if link.other(node.name) in topology.nodes else link.other(node.name)
    return {
        "network": f"veil-{lab}-{segment}",
        "mac": _mac(lab, node, link.other(node.name)),
        "address": str(link.address(node.name)),
        "netmask": str(link.subnet.netmask),
        "mtu": link.mtu,
        "queues": QUEUES,
    }


def _script(lab: str, node: Node, links: list[Link], routing: Routing) -> str:
    """Names, addresses and routes as files of systemd-networkd, so that they last over a reboot; then take them."""
    routes = routing.routes(node.name)
    lines = ["set -e", f"echo {node.name} >/etc/hostname", f"hostname {node.name}", "cd /etc/systemd/network"]
    lines.append(_file("10-management.network", _management(node)))
    for link in links:
        far = link.other(node.name)
        mac, name = _mac(lab, node, far), nic(far)
        lines.append(_file(f"05-{name}.link", f"[Match]\nMACAddress={mac}\n[Link]\nName={name}\n"))
        own = [(str(route.to or "0.0.0.0/0"), str(route.via)) for route in routes if route.far == far]
        lines.append(_file(f"05-{name}.network", _network(node, link, name, own)))
        lines.append(f"d=$(grep -l {mac} /sys/class/net/*/address | cut -d/ -f5)")
        lines.append(f"ip link set $d down; ip link set $d name {name}")
    if node.forwards:
        lines.append("printf 'net.ipv4.ip_forward=1\\nnet.ipv6.conf.all.forwarding=1\\n' >/etc/sysctl.d/router.conf")
        lines.append("sysctl -qp /etc/sysctl.d/router.conf")
    lines.append("systemctl restart systemd-networkd")
    lines.append("[ -e /tmp/veilnet.tar ] || exit 0")
    lines.append("mkdir -p /opt/veilnet/tree && tar -C /opt/veilnet/tree -xf /tmp/veilnet.tar && rm /tmp/veilnet.tar")
    return "\n".join(lines) + "\n"


def _file(name: str, text: str) -> str:
    return f"cat >{name} <<'TEXT'\n{text}TEXT"


def _management(node: Node) -> str:
    """The lease is Vagrant's way in, the other address the topology's."""
    return (
        "[Match]\nDriver=virtio_net\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
        f"Address={node.management}/{MANAGEMENT.prefixlen}\n[DHCPv4]\nClientIdentifier=mac\n"
    )


def _network(node: Node, link: Link, name: str, routes: list[tuple[str, str]]) -> str:
    ends = zip(link.addresses_of(node.name), link.subnets, strict=True)
    text = f"[Match]\nName={name}\n[Link]\nMTUBytes={link.mtu}\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    text += "".join(f"Address={address}/{subnet.prefixlen}\n" for address, subnet in ends)
    return text + "".join(f"[Route]\nDestination={to}\nGateway={via}\n" for to, via in routes)
