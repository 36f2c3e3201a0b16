# SPDX-License-Identifier: Apache-2.0
"""A Master's clock that jumps, goes back, and is accepted as right by its operator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master, node_headers
from tests.api.test_snapshot_route import replica_of
from veilnet.api.clock import ACCEPT, JUMP_MAX, WatchedClock, clock_fault
from veilnet.protocol.envelope import read_envelope, strict_json


class Time:
    """Both clocks of a host."""

    def __init__(self) -> None:
        self.wall, self.monotonic = float(START), 50.0

    def pass_by(self, seconds: float, *, drift: float = 0.0) -> None:
        self.monotonic += seconds
        self.wall += seconds + drift


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def watched(time: Time) -> WatchedClock:
    return WatchedClock(lambda: time.wall, lambda: time.monotonic)


@pytest.mark.parametrize(("jump", "way"), [(JUMP_MAX + 1, "forward by 301"), (-JUMP_MAX - 1, "back by 301")])
def test_a_jump_is_a_fault_until_it_is_taken_back(time: Time, watched: WatchedClock, jump: int, way: str) -> None:
    time.pass_by(10, drift=jump)
    assert way in watched.fault and way in clock_fault(watched, 0)
    time.pass_by(10, drift=-jump)
    assert watched.fault == "" and watched() == START + 20


def test_what_ntp_corrects_little_by_little_is_no_jump(time: Time, watched: WatchedClock) -> None:
    for _ in range(2 * JUMP_MAX):
        time.pass_by(20, drift=0.9)
        assert watched.fault == ""
    time.pass_by(20, drift=JUMP_MAX + 1)
    assert watched.fault


def test_a_start_before_the_last_signature_is_a_fault_unless_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ACCEPT, raising=False)
    assert clock_fault(lambda: START, START + JUMP_MAX) == ""
    fault = clock_fault(lambda: START, START + JUMP_MAX + 1)
    assert "301 s behind what it has signed" in fault and f"{ACCEPT}=1" in fault
    monkeypatch.setenv(ACCEPT, "1")
    assert clock_fault(lambda: START, START + JUMP_MAX + 1) == ""


def test_accepting_a_clock_excuses_no_jump(time: Time, watched: WatchedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACCEPT, "1")
    time.pass_by(1, drift=-JUMP_MAX - 1)
    assert "jumped back" in clock_fault(watched, START)


def times(body: Any) -> list[int]:
    """When everything in a snapshot begins: head, entries, certificates."""
    entries = [read_payload(record["entry"])["issued"] for record in body["records"]]
    certificates = [read_payload(record["cert"])["not_before"] for record in body["records"]]
    return [read_payload(body["head"])["issued"], *entries, *certificates]


def read_payload(envelope: Any) -> dict[str, Any]:
    return strict_json(read_envelope(envelope).payload, 100_000)


@pytest.mark.parametrize("ahead", [3600, 5 * 86400], ids=["one record", "every certificate"])
async def test_a_clock_that_was_ahead_is_accepted_and_everything_signed_again(
    master: Master, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.delenv(ACCEPT, raising=False)
    realm = await master.realm()
    enrolled = [
        await master.enrol(name, identity=node, descriptor=node.descriptor(life=7 * 86400))
        for name, node in (("one", Identity()), ("two", Identity()))
    ]
    one, headers = enrolled[0], node_headers(enrolled[0])

    async def snapshot() -> Any:
        return await master.request("GET", "/node/snapshot", headers=headers)

    await snapshot()
    master.clock.now += ahead
    await master.request("POST", "/realms/lab/edges", json={"a": "one", "b": "two"}, status=201)
    wrong = await snapshot()
    assert len([begin for begin in times(wrong) if begin > START]) >= 2

    master.clock.now = START
    assert await snapshot() == wrong, "a suspect clock signs nothing"
    replica = replica_of(wrong, one, realm, START)
    assert len(replica.directory(START).nodes) < 2, "a node with a right clock believed it"

    monkeypatch.setenv(ACCEPT, "1")
    right = await snapshot()
    assert max(times(right)) == START and len(right["records"]) == 2
    assert await snapshot() == right, "once, not at every look"
    replica.take_head(right["head"], START)
    for record in right["records"]:
        replica.take_record(record, START)
    found = replica.directory(START)
    assert {node.name for node in found.nodes.values()} == {"one", "two"} and len(found.edges) == 1

    monkeypatch.delenv(ACCEPT)
    await master.enrol("three")
    assert (await snapshot())["version"] > right["version"], "from then on no word of the operator is needed"
