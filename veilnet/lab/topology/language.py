# SPDX-License-Identifier: Apache-2.0
"""The words of a topology file, version 2. `python -m veilnet.lab.topology` writes the JSON schema from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from veilnet.lab.topology import units
from veilnet.lab.topology.grammar import (
    Boolean,
    Choice,
    Either,
    Integer,
    Mapping,
    Record,
    Sequence,
    Tagged,
    Text,
    Type,
)
from veilnet.lab.topology.model import MTU_RANGE_IPV4, ROLES

SCHEMA: Final = Path(__file__).with_name("schema.json")
MAX_NODES: Final = 1024

_NAME = "[a-z][a-z0-9]{0,7}"  # an interface name is "u-" and a node name, a namespace's has two of them
NAME = Text(f"^{_NAME}$", "a name is a letter a-z, then at most 7 of a-z and 0-9")
TITLE = Text("^[a-z][a-z0-9-]{0,15}$", "a name is a letter a-z, then at most 15 of a-z, 0-9 and -")
CIDR = Text(r"^[0-9a-fA-F:.]+/[0-9]{1,3}$", "a subnet, such as 203.0.113.0/24 or fd77::/64")
ADDRESS = Text(r"^[0-9a-fA-F:.]+$", "an address, such as 203.0.113.1 or fd77::1")
TIME = Text(units.TIME, "a time with its unit, such as 20ms, 1.5s or 150us")
SHARE = Text(units.SHARE, "a percentage from 0% to 100%, such as 1% or 0.05%")
RATE = Text(units.RATE, "a rate with its unit, such as 64kbit, 100mbit or 1.5gbit")
QUEUE = Text(units.QUEUE, "a time or a number of packets, such as 50ms or 100p")
MTU = Integer(*MTU_RANGE_IPV4, "an MTU in bytes")
BEHAVIOUR = Choice(("endpoint-independent", "address-dependent", "address-and-port-dependent"))

_BURST = Record({"p": SHARE, "r": SHARE}, {"bad": SHARE, "good": SHARE})
_WEAR: dict[str, Type] = {
    "jitter": TIME,
    "loss": SHARE,
    "burst": _BURST,
    "reorder": SHARE,
    "duplicate": SHARE,
    "rate": RATE,
    "queue": QUEUE,
}
_SHAPE: dict[str, Type] = {"delay": TIME, **_WEAR}
ONE_WAY = f"^{_NAME}->{_NAME}$"
_EACH_WAY = (ONE_WAY, Record({}, {**_SHAPE, "mtu": MTU}))

_PAIR = Sequence(NAME, "a link is [node, node]", 2, 2)
_SUBNETS: dict[str, Type] = {
    "ipv4": CIDR,
    "ipv6": CIDR,
    "addresses": Mapping(NAME, Sequence(ADDRESS, "a list of addresses", 1, 2)),
}
_LINK = Record({"ends": _PAIR}, {"wire": Boolean(), "mtu": MTU, "hole": MTU, **_SHAPE, **_SUBNETS}, _EACH_WAY)
_LEG = Record({}, {"hole": MTU, **_SHAPE, "out": _EACH_WAY[1], "in": _EACH_WAY[1]})
_NETWORK = Record(
    {"nodes": Either(Sequence(NAME, "a list of nodes", 1), Mapping(NAME, _LEG))}, {"mtu": MTU, **_SUBNETS}
)
_MATRIX = Record(
    {"file": Text("^.+$", "a file name"), "nodes": Mapping(NAME, Text("^.+$", "a row of the matrix, by its name"))},
    {"values": Choice(("rtt", "one-way")), "array": Text("^.+$", "an array of an npz file"),
     "slot": Integer(0, 2**31), "mtu": MTU, **_WEAR},
)  # fmt: skip

_BLOCKS: dict[str, Type] = {
    "outside": NAME,
    "udp": Choice(("open", "blocked")),
    "icmp": Choice(("open", "no-errors", "blocked")),
}
_MEMBER: dict[str, Type] = {"light": Boolean(), "count": Integer(1, MAX_NODES)}
_ROLE_FIELDS: dict[str, tuple[dict[str, Type], dict[str, Type]]] = {
    "master": ({}, {}),
    "guardian": ({}, _MEMBER),
    "conflux": ({}, _MEMBER),
    "router": (
        {},
        {**_BLOCKS, "filtering": Choice(("endpoint-independent", "address-and-port-dependent"))},
    ),
    "nat": (
        {"mapping": BEHAVIOUR, "filtering": BEHAVIOUR},
        {**_BLOCKS, "timeout": TIME, "hairpin": Boolean(), "ports": Choice(("preserve", "random", "sequential"))},
    ),
    "host": ({}, {}),
}
_NODE = Tagged(
    "role",
    {
        role: Record({"role": Choice((role,)), **required}, optional)
        for role, (required, optional) in _ROLE_FIELDS.items()
    },
)
assert tuple(_ROLE_FIELDS) == ROLES

TOPOLOGY = Record(
    {"name": TITLE, "nodes": Mapping(NAME, _NODE)},
    {
        "seed": Integer(0, 2**53),
        "underlay": Record({}, {"ipv4": CIDR, "ipv6": CIDR}),
        "links": Sequence(Either(_PAIR, _LINK), "a list of [node, node], or of mappings with `ends`"),
        "networks": Mapping(NAME, _NETWORK),
        "matrix": _MATRIX,
        "edges": Sequence(_PAIR, "a list of [node, node]"),
    },
)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a topology file. Names that exist, addresses that are free: these the parser checks."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:veilnet:lab:topology:2",
        "title": "VeilNet lab topology",
    }
    return head | TOPOLOGY.schema()


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"
