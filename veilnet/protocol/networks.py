# SPDX-License-Identifier: Apache-2.0
"""Prefixes behind Confluxes: what is never part of one. Master and nodes ask the same (docs/networks.md)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

NEVER: Final = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    )
)
"""This network, loopback, link-local, multicast, reserved and broadcast (RFC 6890), IPv4 as IPv6 has it (RFC 4291)."""


UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")
"""RFC 4193."""


def check_range(network: IpNetwork) -> None:
    """ValueError if a realm can't have it for its overlay addresses: hosts route all of it into the overlay."""
    if isinstance(network, IPv6Network):
        if not network.subnet_of(UNIQUE_LOCAL) or network.prefixlen < 48:
            raise ValueError("the range must be unique local, /48 or longer")
    elif not 8 <= network.prefixlen <= 28:
        raise ValueError("the range must be between /8 and /28")
    elif any(inside(network, other) or inside(other, network) for other in NEVER):
        raise ValueError("the range must hold ordinary unicast addresses")


def inside(network: IpNetwork, other: IpNetwork) -> bool:
    """Whether `other` holds all of `network`."""
    if isinstance(network, IPv4Network) and isinstance(other, IPv4Network):
        return network.subnet_of(other)
    return isinstance(network, IPv6Network) and isinstance(other, IPv6Network) and network.subnet_of(other)
