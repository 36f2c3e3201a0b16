# SPDX-License-Identifier: Apache-2.0
"""What a member's flood of knocks and control takes from the others, at the data plane: the ring and keyd's time."""

from __future__ import annotations

import time

import pytest

from tests.attack.flood import ROOM, Flood, neighbour, source
from tests.bpf import oracle as o
from tests.bpf.cases import HS_BODY, KNOCK, packet, sip_key
from tests.bpf.harness import World
from veilnet import contract as c

pytestmark = pytest.mark.root


def test_knocks_of_one_source_leave_those_of_another(flood: Flood) -> None:
    number = 4 * c.KNOCK_BURST
    seen, seconds = flood.send([flood.knock(source(1)) for _ in range(number)])
    assert seen["OK_KNOCK"] <= c.KNOCK_BURST + c.KNOCK_RATE * seconds + 1
    assert seen["DROP_KNOCK_RATE"] == number - seen["OK_KNOCK"] > 0
    flood.keyd_reads()
    assert flood.one(flood.knock(source(2))) == "OK_KNOCK"


def test_a_stranger_can_not_use_up_a_members_knocks_by_replay(flood: Flood) -> None:
    """Replays come first: only who can make a fresh knock is counted against its source."""
    old = packet(o.handshake(KNOCK[0], HS_BODY), source(1))
    seen, _ = flood.send([old] * (4 * c.KNOCK_BURST))
    assert seen == {"OK_KNOCK": 1, "PASS_KNOCK_REPLAY": 4 * c.KNOCK_BURST - 1}
    assert flood.one(flood.knock(source(1))) == "OK_KNOCK"


def test_knocks_of_many_sources_leave_room_for_control(flood: Flood, world: World) -> None:
    world.put_link(1, neighbour(1), rx=(sip_key("one"), None))
    seen, _ = flood.send([flood.knock(source(number % 4000)) for number in range(ROOM + 100)])
    assert seen == {"OK_KNOCK": c.SHARE_KNOCK, "DROP_KNOCK_RATE": ROOM + 100 - c.SHARE_KNOCK}
    assert flood.send([flood.control(neighbour(1), "one") for _ in range(50)])[0] == {"OK_CONTROL": 50}


def test_control_of_one_link_leaves_that_of_another(flood: Flood, world: World) -> None:
    world.put_link(1, neighbour(1), rx=(sip_key("one"), None))
    world.put_link(2, neighbour(2), rx=(sip_key("two"), None))
    seen, seconds = flood.send([flood.control(neighbour(1), "one") for _ in range(ROOM)])
    assert seen["OK_CONTROL"] <= c.LINK_BURST + c.LINK_RATE * seconds + 1
    assert seen["DROP_CONTROL_RATE"] == ROOM - seen["OK_CONTROL"] > 0
    assert flood.send([flood.control(neighbour(2), "two") for _ in range(50)])[0] == {"OK_CONTROL": 50}


def test_bodies_of_circuits_leave_the_links_own_control(flood: Flood, world: World) -> None:
    """A member behind a Guardian floods through it: the Guardian's own control and its other circuits go on."""
    world.put_link(1, neighbour(1), rx=(sip_key("one"), None))
    for label in range(1, 1001):
        world.put_circuit(label, kind=c.CIRCUIT_LOCAL, in_link=1)
    one, seconds = flood.send([flood.control(neighbour(1), "one", 1) for _ in range(4 * c.CIRCUIT_BURST)])
    assert one["OK_CONTROL"] <= c.CIRCUIT_BURST + c.CIRCUIT_RATE * seconds + 1
    assert flood.one(flood.control(neighbour(1), "one", 2)) == "OK_CONTROL"
    many, _ = flood.send([flood.control(neighbour(1), "one", number % 1000 + 1) for number in range(ROOM + 100)])
    assert many["OK_CONTROL"] <= c.SHARE_TRANSIT
    assert flood.send([flood.control(neighbour(1), "one") for _ in range(50)])[0] == {"OK_CONTROL": 50}
    world.put_circuit(2000, kind=c.CIRCUIT_END, in_link=1, stream=1, flags=c.CIRCUIT_F_HS_GRACE)
    assert flood.one(flood.control(neighbour(1), "one", 2000)) == "OK_CONTROL"


def test_keyd_reads_and_the_buckets_fill_again(flood: Flood) -> None:
    seen, _ = flood.send([flood.knock(source(1)) for _ in range(4 * c.KNOCK_BURST)])
    assert seen["DROP_KNOCK_RATE"]
    flood.keyd_reads()
    time.sleep(10 / c.KNOCK_RATE)
    assert flood.one(flood.knock(source(1))) == "OK_KNOCK"
