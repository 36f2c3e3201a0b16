# SPDX-License-Identifier: Apache-2.0
"""Kernel routes of accepted networks, in the current network namespace (docs/networks.md).

They stand in a table of their own. Rules before it keep apart what must not enter the overlay; all of it bears
PROTOCOL, by which it is known again. Nothing else of the host's routing is touched.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute, NetlinkError

from veilnet.loader.maps import Network

Address = IPv4Address | IPv6Address

MARK: Final = 0x56454C
"""SO_MARK of the key daemon's own sockets: packets that never take an accepted network's route."""
PROTOCOL: Final = 86
FIRST, PLACES, SPAN = 5200, 1000, 8
MAIN: Final = 254
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_INVERT: Final = 2  # FIB_RULE_INVERT, include/uapi/linux/fib_rules.h
_UNSET: Final = 0xFFFFFFFF
_PROBE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}  # documentation addresses: what the default route has


@dataclass(frozen=True, slots=True)
class Rule:
    """`priority`: place in the order, from 0. `mark`: all but packets that bear it."""

    family: int
    priority: int
    table: int
    iif: str = ""
    source: str = ""
    mark: int = 0
    no_default: bool = False


def number(instance: str) -> int:
    """Of the instance's table and of its first rule. Two instances of one host that share a number, one in a thousand,
    would take each other's rules away: name one of them otherwise."""
    return FIRST + SPAN * (zlib.crc32(instance.encode()) % PLACES)


def rules_for(instance: str, device: str, elsewhere: Iterable[Address]) -> set[Rule]:
    """What has to stand before and around the table. `elsewhere`: the host's addresses on other devices, in whose name
    nothing may enter the overlay: it would be refused at the other end."""
    base, wanted = number(instance), set[Rule]()
    for family in _families():
        wanted.add(Rule(family, 0, MAIN, iif=f"{device}p"))
        wanted |= {Rule(family, 1, MAIN, source=str(a)) for a in elsewhere if _FAMILIES[a.version] == family}
        wanted.add(Rule(family, 2, MAIN, no_default=True))
        wanted.add(Rule(family, 3, base, mark=MARK))
    return wanted


def ensure(instance: str, device: str, accepted: Collection[Network]) -> bool:
    """Make the kernel route these networks to `device` and no others; whether anything was to do. Idempotent. Raises
    NetlinkError where the kernel refuses."""
    if not accepted:
        return remove(instance, device)
    with IPRoute() as ip:
        found = ip.link_lookup(ifname=device)
        if not found:
            return False  # `down` is at work; routes went with the device
        wanted = rules_for(instance, device, _elsewhere(ip, int(found[0])))
        held = _rules(ip, instance)
        for rule in sorted(wanted - held, key=lambda rule: rule.priority):
            _rule(ip, "add", instance, rule)
        changed = _ensure_routes(ip, number(instance), int(found[0]), set(accepted))
        for rule in held - wanted:
            _rule(ip, "del", instance, rule)
    _reverse_path(device, strict=True)
    return changed or wanted != held


def remove(instance: str, device: str = "") -> bool:
    """Take the table and its rules away, the way into it first; whether there was anything. `device` if it stays."""
    if device:
        _reverse_path(device, strict=False)
    with IPRoute() as ip:
        held = _rules(ip, instance)
        for rule in sorted(held, key=lambda rule: -rule.priority):
            _rule(ip, "del", instance, rule)
        return _ensure_routes(ip, number(instance), 0, set()) or bool(held)


def _elsewhere(ip: IPRoute, device: int) -> set[Address]:
    found = ((entry["index"], entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")) for entry in ip.get_addr())
    addresses = {ip_address(text) for index, text in found if index != device}
    return {address for address in addresses if not address.is_loopback and not address.is_link_local}


def _reverse_path(device: str, *, strict: bool) -> None:
    """Strict (RFC 3704): no gateway sends in the name of a network that this host reaches by another device. IPv4 alone
    has the switch; loose is how `veth` makes the device."""
    setting = Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter")
    if setting.exists():
        setting.write_text("1" if strict else "2")


# ---- routes ---------------------------------------------------------------------------------------------------------


def _ensure_routes(ip: IPRoute, table: int, device: int, wanted: set[Network]) -> bool:
    held = {network: oif for family in _families() for network, oif in _routes(ip, table, family)}
    for network, oif in held.items():
        if network not in wanted:
            ip.route("del", dst=str(network), oif=oif, table=table, proto=PROTOCOL, family=_FAMILIES[network.version])
    missing = [n for n in wanted if held.get(n) != device and _FAMILIES[n.version] in _families()]
    for network in missing:
        family = _FAMILIES[network.version]
        ip.route("replace", dst=str(network), oif=device, table=table, proto=PROTOCOL, family=family)
    return bool(missing) or not held.keys() <= wanted


def _routes(ip: IPRoute, table: int, family: int) -> list[tuple[Network, int]]:
    everything = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a prefix of length 0
    return [
        (ip_network((route.get_attr("RTA_DST") or everything, route["dst_len"])), route.get_attr("RTA_OIF"))
        for route in ip.get_routes(family=family, table=table)
        if route["proto"] == PROTOCOL
    ]


# ---- rules ----------------------------------------------------------------------------------------------------------


def _families() -> list[int]:
    return [socket.AF_INET, *([socket.AF_INET6] if Path("/proc/sys/net/ipv6").is_dir() else [])]


def _rules(ip: IPRoute, instance: str) -> set[Rule]:
    base = number(instance)
    found = set()
    for family in _families():
        for message in ip.get_rules(family=family):
            priority = message.get_attr("FRA_PRIORITY") or 0
            if message.get_attr("FRA_PROTOCOL") == PROTOCOL and base <= priority < base + SPAN:
                found.add(_read_rule(message, priority - base))
    return found


def _read_rule(message: Any, priority: int) -> Rule:
    return Rule(
        message["family"],
        priority,
        message.get_attr("FRA_TABLE"),
        message.get_attr("FRA_IIFNAME") or "",
        message.get_attr("FRA_SRC") or "",
        message.get_attr("FRA_FWMARK") or 0,
        message.get_attr("FRA_SUPPRESS_PREFIXLEN", _UNSET) != _UNSET,
    )


def _rule(ip: IPRoute, command: str, instance: str, rule: Rule) -> None:
    words: dict[str, Any] = {"family": rule.family, "priority": number(instance) + rule.priority, "protocol": PROTOCOL}
    words["table"] = rule.table
    if rule.iif:
        words["iifname"] = rule.iif
    if rule.source:
        words |= {"src": rule.source, "src_len": 32 if rule.family == socket.AF_INET else 128}
    if rule.mark:
        words |= {"fwmark": rule.mark, "flags": _INVERT}
    if rule.no_default:
        words["suppress_prefixlen"] = 0
    ip.rule(command, **words)


# ---- gateways -------------------------------------------------------------------------------------------------------


def missing_forwarding(device: str, own: Iterable[Network]) -> list[str]:
    """Settings, as sysctl names them, that this host lacks to forward between `device` and its own networks; or, for a
    network that it has no route to, that. IPv4 is forwarded by the device a packet comes in on, IPv6 by all or none."""
    missing: dict[str, None] = {}
    with IPRoute() as ip:
        names = dict(socket.if_nameindex())
        for network in own:
            found = _devices_to(ip, network)
            if found is None:
                missing[f"no route to {network}"] = None
                continue
            for name in [device, *(names[index] for index in sorted(found) if index in names)] if found else []:
                setting = f"net.ipv4.conf.{name}.forwarding" if network.version == 4 else "net.ipv6.conf.all.forwarding"
                if _is_off(setting):
                    missing[f"{setting}=1"] = None
    return list(missing)


def _devices_to(ip: IPRoute, network: Network) -> set[int] | None:
    """Devices that lead into a network, none if it is this host's own; None without a route."""
    last = network.num_addresses - 1
    probes = {str(network[min(1, last)]), str(network[max(last - 1, 0)])}  # one of them may be this host's
    found = set()
    try:
        for probe in probes if network.prefixlen else {_PROBE[network.version]}:
            (route,) = ip.route("get", dst=probe, family=_FAMILIES[network.version])
            found.add(int(route.get_attr("RTA_OIF")))
    except NetlinkError:
        return None
    return found - {socket.if_nametoindex("lo")}


def _is_off(setting: str) -> bool:
    words = setting.split(".")
    path = Path("/proc/sys", *words[:3], ".".join(words[3:-1]), words[-1])  # a device's name may hold dots
    return not path.exists() or path.read_text().strip() == "0"
