# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes, any order and any clock: a replica raises nothing but its own errors and ends with the newest."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.realm import NOW
from tests.protocol.replicas import G1, G2, G3, REALM, names, replica
from veilnet.protocol import directory as d
from veilnet.protocol.envelope import sign_document
from veilnet.protocol.policy import read_policy
from veilnet.protocol.records import (
    ENTRY_CONTEXT,
    HEAD_CONTEXT,
)
from veilnet.protocol.replica import Replica

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8).map(bytes.hex)


@given(
    st.dictionaries(
        st.sampled_from(["realm", "node", "version", "issued", "cert", "descriptor", "edges", "until"]),
        LEAVES | st.just(REALM.id.hex()) | st.lists(LEAVES, max_size=3),
    )
)
def test_signed_nonsense_entries_raise_nothing_else(payload: dict[str, Any]) -> None:
    record = {**G2.record(2), "entry": sign_document(payload, REALM.keys[0], ENTRY_CONTEXT).as_json()}
    with pytest.raises(d.DirectoryError):
        replica().take_record(record, NOW)


@given(
    st.dictionaries(
        st.sampled_from(["realm", "version", "issued", "expires", "settings", "policy", "ca", "retired"]),
        LEAVES | st.just(REALM.id.hex()) | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=3), LEAVES),
    )
)
def test_signed_nonsense_heads_raise_nothing_else(payload: dict[str, Any]) -> None:
    found = Replica(REALM.trust, G1.id)
    with pytest.raises(d.DirectoryError):
        found.take_head(sign_document(payload, REALM.keys[0], HEAD_CONTEXT).as_json(), NOW)


@given(st.data())
def test_any_change_of_a_record_is_refused(data: st.DataObject) -> None:
    record = copy.deepcopy(RECORD)
    part = data.draw(st.sampled_from(["entry", "cert", "descriptor"]))
    name = data.draw(st.sampled_from(["payload", "sig", "key"]))
    text = record[part][name]
    place = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from("0aA/="))
    record[part][name] = text[:place] + new + text[place + 1 :]
    found = replica(G1, G1.record())
    if record == RECORD:
        return
    with pytest.raises(d.DirectoryError):
        found.take_record(record, NOW)
    assert names(found) == {"node-1"}


RECORD = G2.record(2)


@given(st.binary(max_size=200) | st.recursive(LEAVES, st.lists).map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    found = replica()
    for take in (found.take_head, found.take_record):
        with pytest.raises(d.DirectoryError):
            take(data, NOW)


def test_settings_are_small_and_flat() -> None:
    for bad in (
        {"a": [1]},
        {"a": "x" * 257},
        {"a": 10**4000},
        {"a": True},
        {str(i): i for i in range(65)},
        {"x" * 65: 1},
    ):
        with pytest.raises(d.MalformedDocument):
            Replica(REALM.trust, G1.id).take_head(REALM.head(settings=bad), NOW)


STEPS: list[tuple[str, int, dict[str, Any]]] = [
    ("head", 1, REALM.head(1)),
    ("head", 2, REALM.head(2, policy=read_policy({"default": "none"}))),
    ("head", 3, REALM.head(3)),
    *(
        (name, version, node.record(version, serial=version))
        for name, node in (("g1", G1), ("g2", G2))
        for version in (1, 2, 4)
    ),
    ("g2", 3, G2.gone(3)),
    ("g3", 5, G3.gone(5)),
    ("g3", 4, G3.record(4)),
]


@given(st.lists(st.sampled_from(STEPS), max_size=24), st.lists(st.integers(-1000, 1000), min_size=24, max_size=24))
def test_any_order_any_clock_ends_with_the_newest(
    steps: list[tuple[str, int, dict[str, Any]]], clocks: list[int]
) -> None:
    """Whoever replays, drops or mixes what the CA has signed gets the newest of what arrived, and nothing older."""
    found = Replica(REALM.trust, G1.id)
    newest: dict[str, int] = {}
    for (kind, version, document), clock in zip(steps, clocks, strict=False):
        take = found.take_head if kind == "head" else found.take_record
        known = newest.get(kind, 0)
        if version < known:
            with pytest.raises(d.Rollback):
                take(document, NOW + clock)
        else:
            assert bool(take(document, NOW + clock)) == (version > known)
        newest[kind] = max(known, version)
        found.forget()
    serials = {node.name: node.serial for node in found.directory(NOW).nodes.values()}
    wanted = {"node-1": newest.get("g1"), "node-2": newest.get("g2"), "node-3": newest.get("g3")}
    gone = {"node-2": 3, "node-3": 5}
    if "head" in newest:
        live = {name: version for name, version in wanted.items() if version and gone.get(name) != version}
        assert serials.keys() == live.keys()
        assert all(serials[name] == version for name, version in live.items() if name != "node-3")
    else:
        assert not serials
