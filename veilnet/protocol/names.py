# SPDX-License-Identifier: Apache-2.0
"""Names of a realm's nodes, and further ones that its administrators give to addresses (docs/dns.md).

A node's name is `<name>.<suffix>`; a record's the same. Everything here comes from signed documents, and is checked
again by the node all the same: the lines go to files like /etc/hosts, where a space or a newline would say more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Any, Final, Protocol

from veilnet.protocol.envelope import MalformedDocument
from veilnet.protocol.networks import NEVER, IpAddress

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN_PATTERN: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_DOMAIN: Final = re.compile(DOMAIN_PATTERN)
DOMAIN_MAX: Final = 253
"""Characters of a whole name (RFC 1035 section 2.3.4, in text)."""
RECORD_MAX: Final = 128
"""Characters of a record's name, without the suffix; a suffix has at most as many."""
RECORDS_MAX: Final = 256
ADDRESSES_MAX: Final = 8
"""Of one record."""
PRIVATE_SUFFIXES: Final = ("internal", "home.arpa", "test")
"""Set aside for such use (ICANN 2024, RFC 8375, RFC 6761): no name under them means anything on the internet."""

TAKEN_SUFFIXES: Final = tuple(f"{name}.internal" for name in ("google", "ec2", "compute", "docker", "containers"))
"""Clouds and container engines answer these on their machines: metadata.google.internal hands out credentials."""


class Named(Protocol):
    """What is looked at of a node."""

    @property
    def name(self) -> str: ...
    @property
    def ipv4(self) -> IPv4Address: ...
    @property
    def ipv6(self) -> IPv6Address: ...


@dataclass(frozen=True, slots=True)
class Names:
    """What a realm says beside its nodes' names; an empty suffix: nothing has a name."""

    suffix: str = ""
    records: Mapping[str, tuple[IpAddress, ...]] = field(default_factory=lambda: MappingProxyType({}))


NO_NAMES: Final = Names()


def is_domain(text: str, limit: int = RECORD_MAX) -> bool:
    """Labels of RFC 1123 section 2.1 in lower case."""
    return len(text) <= limit and _DOMAIN.fullmatch(text) is not None


def usable(address: IpAddress) -> bool:
    """Whether it can be one host's: no loopback, link-local, multicast, reserved or mapped one, and without a zone."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return not any(address in network for network in NEVER if network.version == address.version)


def is_private(suffix: str) -> bool:
    """Whether names under it can be nobody else's: at least a label below what is set aside, and not taken there."""
    if any(f".{suffix}".endswith(f".{taken}") for taken in TAKEN_SUFFIXES):
        return False
    return any(suffix.endswith(f".{end}") for end in PRIVATE_SUFFIXES)


def read_records(value: Any) -> Mapping[str, tuple[IpAddress, ...]]:
    """From a document's JSON object. Raises MalformedDocument."""
    if not isinstance(value, Mapping) or len(value) > RECORDS_MAX:
        raise MalformedDocument(f"dns: not an object of at most {RECORDS_MAX} records")
    return MappingProxyType({_checked(name): _addresses(name, found) for name, found in value.items()})


def records_json(records: Mapping[str, tuple[IpAddress, ...]]) -> dict[str, list[str]]:
    return {name: [str(address) for address in found] for name, found in records.items()}


def _checked(name: str) -> str:
    if not is_domain(name):
        raise MalformedDocument("dns: a record's name is not made of labels of RFC 1123")
    return name


def _addresses(name: str, value: Any) -> tuple[IpAddress, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= ADDRESSES_MAX:
        raise MalformedDocument(f"dns: {name} has not 1 to {ADDRESSES_MAX} addresses")
    try:
        found = tuple(ip_address(text) for text in value if isinstance(text, str))
    except ValueError as error:
        raise MalformedDocument(f"dns: {name}: {error}") from error
    if len(found) != len(value) or not all(usable(address) for address in found):
        raise MalformedDocument(f"dns: {name} has something else than hosts' addresses")
    return found


def hosts(names: Names, nodes: Mapping[Any, Named]) -> Iterator[tuple[IpAddress, str]]:
    """Every address with its whole name. A node's name stands above a record's of the same text."""
    if not is_domain(names.suffix):
        return
    taken = {node.name for node in nodes.values()}
    for node in sorted(nodes.values(), key=lambda node: node.name):
        yield from _under(names.suffix, node.name, (node.ipv4, node.ipv6))
    for name, addresses in sorted(names.records.items()):
        if name not in taken:
            yield from _under(names.suffix, name, addresses)


def _under(suffix: str, name: str, addresses: tuple[IpAddress, ...]) -> Iterator[tuple[IpAddress, str]]:
    if is_domain(whole := f"{name}.{suffix}", DOMAIN_MAX):
        for address in addresses:
            yield address, whole
