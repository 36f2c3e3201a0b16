# SPDX-License-Identifier: Apache-2.0
"""What a NAT or a firewall of the lab does, by the terms of RFC 4787 (UDP) and RFC 5508 (ICMP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

UDP_TIMEOUT = 300.0
"""Seconds; RFC 4787 REQ-5 recommends 5 minutes and allows no less than 2."""
ICMP_TIMEOUT = 60.0
"""Seconds, RFC 5508 REQ-2."""


class Dependence(StrEnum):
    """On what of the remote endpoint a mapping, or a filter, depends."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Ports(StrEnum):
    """How the public port of a new mapping is chosen; whatever is taken is passed over."""

    PRESERVE = "preserve"
    """The inside port where it is in range, or the next free one above; else as RANDOM."""
    RANDOM = "random"
    SEQUENTIAL = "sequential"
    """One after the other, from a start that the seed gives."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """What a node refuses to forward, silently. IPv4 and IPv6."""

    udp: bool = True
    """False: no UDP goes through."""
    icmp: bool = True
    """False: no ICMP goes through, nor does the node answer or send any; neighbour discovery stays."""
    icmp_errors: bool = True
    """False: no ICMP errors go through or are sent, so a smaller MTU behind the node is a silent hole."""


@dataclass(frozen=True, slots=True)
class NatKind:
    """One NAT. A CGNAT is two nodes in a row; see `CGNAT`. ValueError for what can't be."""

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports.PRESERVE
    hairpin: bool = True
    """RFC 4787 REQ-9; the sender shows its public address and port."""
    udp_timeout: float = UDP_TIMEOUT
    """Seconds after the last outbound packet."""
    icmp_timeout: float = ICMP_TIMEOUT
    inbound_refresh: bool = False
    """Whether packets from outside keep a mapping, too (RFC 4787 REQ-6 allows it). They never keep a filter open."""
    port_range: tuple[int, int] = (1024, 65535)
    """First and last public port."""
    seed: int = 0
    """Of the port numbers: the same seed and traffic give the same ports."""
    firewall: Firewall = Firewall()

    def __post_init__(self) -> None:
        low, high = self.port_range
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"port range {low}-{high}: from 1 to 65535, the first not above the last")
        for name in ("udp_timeout", "icmp_timeout"):
            check_timeout(getattr(self, name), name)
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed {self.seed}: 64 bits")


def check_timeout(seconds: float, name: str = "timeout") -> None:
    """ValueError unless a mapping can live that long."""
    if not 0.01 <= seconds <= 86400 * 365:
        raise ValueError(f"{name} {seconds} s: from 0.01 s to a year")


_EI, _AD, _APD = Dependence
KINDS: Mapping[str, NatKind] = MappingProxyType(
    {
        # RFC 3489's names, for those who know them
        "full-cone": NatKind(_EI, _EI),
        "restricted-cone": NatKind(_EI, _AD),
        "port-restricted-cone": NatKind(_EI, _APD),
        "symmetric": NatKind(_APD, _APD, Ports.RANDOM, hairpin=False),
    }
)
CGNAT = NatKind(_EI, _EI, Ports.RANDOM)
"""The carrier's half, as RFC 6888 asks for (REQ-1: RFC 4787's requirements and endpoint-independent filtering)."""
