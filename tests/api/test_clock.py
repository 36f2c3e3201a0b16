# SPDX-License-Identifier: Apache-2.0
"""A Master's clock that jumps, goes back, and is accepted as right by its operator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.api.conftest import START, Identity, Master, node_headers
from tests.api.test_snapshot_route import replica_of
from veilnet.api.app import create_app
from veilnet.api.clock import ACCEPT, JUMP_MAX, WatchedClock, clock_fault
from veilnet.api.errors import ClockSuspect
from veilnet.api.retention.service import take_turn
from veilnet.api.snapshots.publisher import publish
from veilnet.api.upkeep.service import Upkeep
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


DAYS = 86400


@pytest.mark.parametrize(
    ("signed_at", "written_at", "says"),
    [
        (0, 0, ""),
        (START, START, ""),
        (START + JUMP_MAX + 1, 0, "301 s behind what it has signed"),
        (START - 60 * DAYS, START - 60 * DAYS, ""),
        (START - 61 * DAYS, START - 61 * DAYS, "61 days after its last change"),
        (START - 61 * DAYS, START - 5, ""),
        (START - 5, START - 61 * DAYS, ""),
        (0, START + JUMP_MAX + 1, "301 s behind what it has written"),
    ],
)
def test_a_start_is_compared_with_the_database(
    watched: WatchedClock, monkeypatch: pytest.MonkeyPatch, signed_at: int, written_at: int, says: str
) -> None:
    monkeypatch.delenv(ACCEPT, raising=False)
    assert watched.compare(signed_at, written_at) == ""
    assert says in watched.fault and bool(watched.fault) == bool(says)
    assert clock_fault(watched, 0) == watched.fault
    again = WatchedClock(lambda: START, lambda: 0)
    monkeypatch.setenv(ACCEPT, "1")
    assert again.compare(signed_at, written_at) == watched.fault
    assert again.fault == ""


async def test_a_master_that_starts_years_ahead_signs_and_drops_nothing(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application as `serve` makes it, but for the time."""
    monkeypatch.delenv(ACCEPT, raising=False)
    await master.realm()
    await master.enrol("one")
    settings, ahead = master.context.settings, START + 800 * DAYS
    app = create_app(settings, clock=WatchedClock(lambda: ahead, lambda: 0))
    async with app.router.lifespan_context(app):
        context = app.state.context
        assert "days after its last change" in context.clock.fault
        assert await take_turn(context) is None
        await Upkeep(context, 0).turn()
        with pytest.raises(ClockSuspect, match="days after its last change"):
            await publish(context, (await master.request("GET", "/realms/lab"))["id"])
    assert (await master.request("GET", "/audit-events"))["items"]


async def test_an_accepted_clock_is_audited_and_accepted_from_then_on(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the entries that a clock years ahead has left would ask for the operator's word at every start."""
    await master.realm()
    behind = START - 400 * DAYS
    for word, fault in (("", "behind what it has written"), ("1", ""), ("", "")):
        monkeypatch.setenv(ACCEPT, word)
        app = create_app(master.context.settings, clock=WatchedClock(lambda: behind, lambda: 0))
        async with app.router.lifespan_context(app):
            assert fault in app.state.context.clock.fault and bool(app.state.context.clock.fault) == bool(fault)
    (last,) = (await master.request("GET", "/audit-events?action=accept_clock"))["items"]
    assert datetime.fromisoformat(last["created_at"]).timestamp() == behind and last["actor_kind"] == "operator"
    assert "behind" in last["changes"]["fault"][0]


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
