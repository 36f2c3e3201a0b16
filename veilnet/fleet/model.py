# SPDX-License-Identifier: Apache-2.0
"""The fleet file: what a realm shall be. What the file does not mention is not managed by it (docs/fleet.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from veilnet.client.api import RealmSettings
from veilnet.lab.topology.grammar import Choice, Mapping, Record, Sequence, Text, Type
from veilnet.lab.topology.items import Item, TopologyError
from veilnet.protocol.envelope import MalformedDocument
from veilnet.protocol.names import ADDRESSES_MAX, DOMAIN_PATTERN
from veilnet.protocol.policy import NAME, TAINT, TAINTS_MAX, read_document

Edge = tuple[str, str]
"""Two nodes by name, the lesser one first."""

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TOKEN_SECONDS: Final = 86400


class FleetFileError(ValueError):
    """The file is not a fleet; the message starts with file:line and the path of the offending entry."""


@dataclass(frozen=True)
class WantedNode:
    """`taints` and `labels` None: the file says nothing about them."""

    name: str
    roles: tuple[str, ...]
    taints: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None


@dataclass(frozen=True)
class Fleet:
    realm: str
    ipv4_range: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] | None = None
    """With every field, as the Master answers it (`whole_policy`)."""
    dns: dict[str, Any] | None = None
    """The same (`whole_dns`)."""
    nodes: dict[str, WantedNode] = field(default_factory=dict)
    links: frozenset[Edge] | None = None
    token_seconds: int = TOKEN_SECONDS


@dataclass(frozen=True)
class _Anything:
    """Checked by whoever knows it: the policy's own reader, the Master."""

    def check(self, item: Item) -> None:
        pass

    def schema(self) -> dict[str, Any]:
        return {}


_NAME = Text(f"^{NAME.pattern}$", "a name is a-z, 0-9 and inner -, at most 63 characters")
_TAINT = Text(f"^{TAINT.pattern}$", "a taint is a-z, 0-9 and inner . _ -, at most 63 characters")
_TIME = Text(r"^[0-9]{1,8}[smhd]$", "a time, such as 90s, 15m, 24h or 7d")
_CIDR = Text(r"^[0-9.]+/[0-9]{1,2}$", "an IPv4 range, such as 10.90.0.0/16")
_LABEL_KEY = Text(r"^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$", "a label's key is a-z, 0-9 and inner . _ / -")
_LABEL = Text(r"^[^\x00]{0,128}$", "a label is a text of at most 128 characters; quote numbers")
_DOMAIN = Text(f"^{DOMAIN_PATTERN}$", "a name is labels of a-z, 0-9 and inner -, with dots between them")
_ADDRESSES = Sequence(Text(r"^[0-9a-fA-F.:]+$", "an IP address"), "a list of IP addresses", 1, ADDRESSES_MAX)
_DNS = Record({}, {"suffix": _DOMAIN, "records": Mapping(_DOMAIN, _ADDRESSES)})
_ROLES = Sequence(Choice(("guardian", "conflux")), "a list of guardian, conflux or both", 1, 2)
_NODE_FIELDS: dict[str, Type] = {
    "taints": Sequence(_TAINT, f"a list of at most {TAINTS_MAX} taints", 0, TAINTS_MAX),
    "labels": Mapping(_LABEL_KEY, _LABEL),
}
_FLEET = Record(
    {"realm": _NAME},
    {
        "ipv4_range": _CIDR,
        "settings": Record({}, dict.fromkeys(RealmSettings.__annotations__, _Anything())),
        "dns": _DNS,
        "policy": _Anything(),
        "tokens": Record({}, {"expires_in": _TIME}),
        "nodes": Mapping(_NAME, Record({"roles": _ROLES}, _NODE_FIELDS)),
        "links": Sequence(Sequence(_NAME, "a link is [node, node]", 2, 2), "a list of links like [a, b]"),
    },
)


def parse(text: str, source: str) -> Fleet:
    """A fleet from YAML text; `source` is the file's name in errors. Raises FleetFileError."""
    try:
        root = Item.document(text, source, "fleet")
        _FLEET.check(root)
        return _fleet(root)
    except TopologyError as error:
        raise FleetFileError(str(error)) from None


def edge(a: str, b: str) -> Edge:
    return (a, b) if a < b else (b, a)


def whole_policy(document: dict[str, Any]) -> dict[str, Any]:
    """A policy document with every field that may be left out, so that two of them can be compared."""
    found = {"default": "taints", "groups": {}, "rules": [], "tests": [], **document}
    tests = [{**test, "a": _whole_side(test["a"]), "b": _whole_side(test["b"])} for test in found["tests"]]
    return {**found, "tests": tests}


def whole_dns(document: dict[str, Any]) -> dict[str, Any]:
    """A realm's names with both fields, and addresses as they are written canonically."""
    records = {name: [str(ip_address(host)) for host in hosts] for name, hosts in document.get("records", {}).items()}
    return {"suffix": document.get("suffix"), "records": records}


def _whole_side(side: Any) -> Any:
    return {"name": "", "taints": [], "worn": None, **side} if isinstance(side, dict) else side


def _fleet(root: Item) -> Fleet:
    ipv4, tokens = root.get("ipv4_range"), root.get("tokens")
    expires = tokens.get("expires_in") if tokens else None
    nodes = {name: _node(name, item) for name, item in root["nodes"].entries.items()} if root.get("nodes") else {}
    return Fleet(
        realm=root["realm"].text,
        ipv4_range=ipv4.text if ipv4 else None,
        settings=plain(root["settings"]) if root.get("settings") else {},
        policy=_policy(root),
        dns=_dns(root),
        nodes=nodes,
        links=_links(root, nodes),
        token_seconds=seconds(expires.text) if expires else TOKEN_SECONDS,
    )


def _node(name: str, item: Item) -> WantedNode:
    taints, labels = item.get("taints"), item.get("labels")
    return WantedNode(
        name,
        roles=tuple(sorted(set(plain(item["roles"])))),
        taints=tuple(sorted(set(plain(taints)))) if taints else None,
        labels=plain(labels) if labels else None,
    )


def _policy(root: Item) -> dict[str, Any] | None:
    item = root.get("policy")
    if item is None:
        return None
    document = plain(item)
    try:
        read_document(document)
    except MalformedDocument as error:
        raise item.error(str(error).rpartition("policy: ")[2]) from error
    return whole_policy(document)


def _dns(root: Item) -> dict[str, Any] | None:
    item = root.get("dns")
    if item is None:
        return None
    records = item.get("records")
    for host in (host for listed in (records.entries.values() if records else ()) for host in listed.elements):
        try:
            ip_address(host.text)
        except ValueError as error:
            raise host.error(str(error)) from error
    return whole_dns(plain(item))


def _links(root: Item, nodes: dict[str, WantedNode]) -> frozenset[Edge] | None:
    listed = root.get("links")
    if listed is None:
        return None
    found: set[Edge] = set()
    for item in listed.elements:
        for end in item.elements:
            if end.text not in nodes:
                raise end.error(f"link to nowhere: no node {end.text!r} in this file")
        pair = edge(item.elements[0].text, item.elements[1].text)
        if pair[0] == pair[1]:
            raise item.error(f"link from {pair[0]} to itself")
        if pair in found:
            raise item.error(f"duplicate link {pair[0]} - {pair[1]}")
        found.add(pair)
    return frozenset(found)


def plain(item: Item) -> Any:
    """The value as YAML's own loader gives it."""
    if isinstance(item.value, dict):
        return {name: plain(value) for name, value in item.entries.items()}
    if isinstance(item.value, list):
        return [plain(value) for value in item.elements]
    return item.value


def seconds(text: str) -> int:
    """`90s`, `15m`, `24h`, `7d`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,8})([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time: write for example 90s, 15m, 24h or 7d")
    return int(match[1]) * UNITS[match[2]]
