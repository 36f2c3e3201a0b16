# SPDX-License-Identifier: Apache-2.0
"""Names of a realm: what is read of a head, and what hosts lines come of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilnet.protocol.envelope import MalformedDocument
from veilnet.protocol.names import (
    ADDRESSES_MAX,
    DOMAIN_MAX,
    RECORDS_MAX,
    Names,
    hosts,
    is_domain,
    is_private,
    read_records,
    records_json,
)

FOUR, SIX = IPv4Address("10.90.0.1"), IPv6Address("fd00::1")


@dataclass(frozen=True)
class Node:
    name: str
    ipv4: IPv4Address = FOUR
    ipv6: IPv6Address = SIX


def test_nodes_come_first_and_shadow_records() -> None:
    records = read_records({"db": ["10.90.0.9", "fd00::9"], "c1": ["192.0.2.1"], "a.b": ["192.168.7.1"]})
    found = list(hosts(Names("lab.internal", records), {1: Node("c2"), 2: Node("c1")}))
    assert [(str(address), name) for address, name in found] == [
        ("10.90.0.1", "c1.lab.internal"),
        ("fd00::1", "c1.lab.internal"),
        ("10.90.0.1", "c2.lab.internal"),
        ("fd00::1", "c2.lab.internal"),
        ("192.168.7.1", "a.b.lab.internal"),
        ("10.90.0.9", "db.lab.internal"),
        ("fd00::9", "db.lab.internal"),
    ]
    assert read_records(records_json(records)) == records


@pytest.mark.parametrize("suffix", ["", "lab internal", "lab\ninternal", "-lab", "LAB", "lab.", "a" * 129])
def test_a_suffix_that_is_no_domain_names_nothing(suffix: str) -> None:
    assert list(hosts(Names(suffix), {1: Node("c1")})) == []


def test_a_name_that_grows_too_long_is_left_out() -> None:
    long = ".".join(["a" * 60] * 2)
    names = Names(f"{long}.xxxxx", read_records({f"{long}.yyyyyy": ["10.0.0.1"], "b": ["10.0.0.2"]}))
    assert len(f"{long}.yyyyyy.{names.suffix}") > DOMAIN_MAX
    assert [name for _, name in hosts(names, {})] == [f"b.{names.suffix}"]


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"db": []},
        {"db": "10.0.0.1"},
        {"db": ["10.0.0.1"] * (ADDRESSES_MAX + 1)},
        {"db": ["10.0.0.1\n127.0.0.1 evil"]},
        {"db": ["10.0.0.256"]},
        {"db": [167772161]},
        {"db": ["fe80::1%eth0"]},
        {"db": ["fe80::1"]},
        {"db": ["127.0.0.1"]},
        {"db": ["::ffff:127.0.0.1"]},
        {"db": ["224.0.0.1"]},
        {"db": ["0.0.0.1"]},
        {"db\n10.0.0.1 bank.example": ["10.0.0.1"]},
        {"DB": ["10.0.0.1"]},
        {"db.": ["10.0.0.1"]},
        {"": ["10.0.0.1"]},
        {f"n{number}": ["10.0.0.1"] for number in range(RECORDS_MAX + 1)},
    ],
)
def test_hostile_records_are_refused(value: Any) -> None:
    with pytest.raises(MalformedDocument, match="dns"):
        read_records(value)


@given(st.text())
def test_no_domain_holds_what_a_hosts_file_takes_for_more(text: str) -> None:
    if is_domain(text):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert all(label and len(label) <= 63 for label in text.split("."))


def test_suffixes_that_are_set_aside() -> None:
    assert all(is_private(text) for text in ("lab.internal", "google.lab.internal", "x.home.arpa", "a.test"))
    assert not any(is_private(text) for text in ("example.com", "myinternal", "internal.com", ""))
    # a realm of this name could stand in for its host's cloud or container engine
    assert not any(is_private(text) for text in ("internal", "test", "google.internal", "c.google.internal"))
    assert not any(is_private(text) for text in ("docker.internal", "eu-west-1.compute.internal"))
