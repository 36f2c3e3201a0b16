# SPDX-License-Identifier: Apache-2.0
"""veil0 and veil0p: the host's overlay device and its inner end, in the current network namespace.

The host routes overlay traffic to veil0; XDP on veil0p seals it. A Guardian has the pair without addresses: the FIB
look-up needs a device with forwarding switched on, and the NIC's own setting is not ours to change.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute

from veilnet.loader import ethtool
from veilnet.loader.maps import Network

IFF_NOARP = 0x80
_SYSCTL = Path("/proc/sys/net")
ALIAS = "veilnet "
"""Alias of veil0 is this and the instance: how it is known again, under whatever contract it was made."""
Interface = IPv4Interface | IPv6Interface


class DeviceTakenError(RuntimeError):
    """A device of that name is there and is not this instance's."""


@dataclass(frozen=True, slots=True)
class VethFacts:
    """The pair as it is; MACs are 6 bytes."""

    name: str
    ifindex: int
    mac: bytes
    peer_ifindex: int
    peer_mac: bytes
    mtu: int
    offloads: tuple[str, ...]
    """Offloads switched on veil0, as `tso off`."""
    created: bool


def _sysctl(family: str, device: str, **values: int) -> None:
    folder = _SYSCTL / family / "conf" / device
    if not folder.is_dir():  # a kernel without IPv6
        return
    for key, value in values.items():
        (folder / key).write_text(str(value))


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    return int(found[0]) if found else 0


def _mac(ip: IPRoute, ifindex: int) -> bytes:
    return bytes.fromhex(ip.get_links(ifindex)[0].get_attr("IFLA_ADDRESS").replace(":", ""))


def _random_mac() -> str:
    """Unicast, locally administered. Named at creation: an address of the kernel's own choice is replaced by udev a
    moment later (MACAddressPolicy=persistent, systemd.link(5)), and frames to the old one are nobody's."""
    first, *rest = os.urandom(6)
    return bytes([first & 0xFC | 0x02, *rest]).hex(":")


def _prepare(name: str, peer: str) -> None:
    """Settings that must stand before the devices come up: no address or neighbour chatter of their own."""
    _sysctl("ipv6", name, addr_gen_mode=1, accept_dad=0, accept_ra=0, router_solicitations=0)
    _sysctl("ipv6", peer, disable_ipv6=1)
    # replies may take another way than strict reverse-path filtering expects
    _sysctl("ipv4", name, rp_filter=2)
    _sysctl("ipv4", peer, rp_filter=0, forwarding=1)


def _switch_offloads(name: str, peer: str) -> tuple[str, ...]:
    """Off: what would leave checksums or segments unfinished for XDP to read. GRO on, for opened packets."""
    before = ethtool.offloads(name)
    for offload in ("tso", "gso", "tx-checksum"):
        ethtool.set_offload(name, offload, False)
    for device in (name, peer):
        ethtool.set_offload(device, "gro", True)
    return ethtool.changed(before, ethtool.offloads(name))


def ensure_pair(
    name: str, instance: str, *, mtu: int, addresses: Sequence[Interface] = (), routes: Sequence[Network] = ()
) -> VethFacts:
    """Create the pair `name`, `name`p unless it is there, and bring it to the state described. Idempotent.

    DeviceTakenError if the name is another instance's, or a stranger's.
    """
    with IPRoute() as ip:
        index = _index(ip, name)
        if index and ip.get_links(index)[0].get_attr("IFLA_IFALIAS") != ALIAS + instance:
            raise DeviceTakenError(f"{name}: a device of that name exists and is not instance {instance}'s")
        if not index:
            peer = {"ifname": f"{name}p", "address": _random_mac()}
            ip.link("add", ifname=name, kind="veth", address=_random_mac(), peer=peer)
        try:
            ip.link("set", index=_index(ip, name), ifalias=ALIAS + instance)
            return _configure(ip, name, mtu, addresses, routes, created=not index)
        except BaseException:
            if not index:
                ip.link("del", index=_index(ip, name))
            raise


def _configure(
    ip: IPRoute, name: str, mtu: int, addresses: Sequence[Interface], routes: Sequence[Network], *, created: bool
) -> VethFacts:
    peer = f"{name}p"
    index, peer_index = _index(ip, name), _index(ip, peer)
    _prepare(name, peer)
    offloads = _switch_offloads(name, peer)
    ip.link("set", index=peer_index, mtu=mtu, state="up")
    ip.link("set", index=index, mtu=mtu, flags=IFF_NOARP, change=IFF_NOARP)
    ip.link("set", index=index, state="up")
    _set_addresses(ip, index, addresses)
    for network in routes:
        ip.route("replace", dst=str(network), oif=index, family=_family(network))
    return VethFacts(name, index, _mac(ip, index), peer_index, _mac(ip, peer_index), mtu, offloads, created)


def _set_addresses(ip: IPRoute, index: int, addresses: Sequence[Interface]) -> None:
    """Give the device these addresses and no others."""
    wanted = {(str(a.ip), a.network.prefixlen) for a in addresses}
    found = {(a.get_attr("IFA_ADDRESS"), int(a["prefixlen"])) for a in ip.get_addr(index=index)}
    for address, length in sorted(found - wanted):
        ip.addr("del", index=index, address=address, prefixlen=length)
    for address, length in sorted(wanted - found):
        ip.addr("add", index=index, address=address, prefixlen=length)


def _family(network: Network) -> int:
    return socket.AF_INET if network.version == 4 else socket.AF_INET6


def remove_pair(instance: str) -> None:
    """Delete the instance's pair in this namespace; nothing if there is none."""
    with IPRoute() as ip:
        for link in ip.get_links():
            if link.get_attr("IFLA_IFALIAS") == ALIAS + instance:
                ip.link("del", index=link["index"])
