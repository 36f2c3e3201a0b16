# SPDX-License-Identifier: Apache-2.0
"""Faults carried out: what they do to a lab, that the lab never wedges, and that `undo` restores it exactly."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.conftest import fresh_name
from tests.patience import PATIENCE, SOAK, promised
from veilnet.lab.faults import nodes, state
from veilnet.lab.faults.run import fault
from veilnet.lab.faults.state import State
from veilnet.lab.faults.undo import picture, undo
from veilnet.lab.faults.words import read
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology import Topology, load

SEED = int(os.environ.get("VEILNET_SEED", "5"))
FAULTS = int(os.environ.get("VEILNET_FAULTS", "1000" if SOAK else "20"))
PACE = 0.6
"""Seconds from one fault to the next, or longer where it takes longer: 1,000 in 10 minutes."""
AT_ONCE = 4
"""Faults under way: a node that starts holds up no others."""


def folded(topology: Topology, *texts: str) -> State:
    return State.of(topology, [read(text, topology) for text in texts])


def test_faults_of_a_link_add_up() -> None:
    ring = load("ring6")
    link = folded(ring, "link g1-g2 loss=5%", "link g1->g2 delay=20ms").links["g1-g2"]
    assert [(way.loss, way.delay) for way in link.directions] == [(0.05, 0.02), (0.05, 0.005)]


def test_plain_takes_away_what_the_file_says_too() -> None:
    link = folded(load("ring6"), "link g1->g2 blackhole", "link g1-g2 plain").links["g1-g2"]
    assert all(way.plain for way in link.directions)
    assert link.blackhole == [False, False]


def test_a_link_of_a_dead_node_stays_dark_when_it_is_put_up() -> None:
    ring = load("ring6")
    link = ring.link("g1", "g2")
    assert not folded(ring, "node g1 kill", "link g1-g2 up").carrier(link)
    assert folded(ring, "node g1 kill", "node g1 restart").carrier(link)


def test_every_link_of_a_lab_for_faults_has_a_wire_of_its_own() -> None:
    topology = load("nat16").faultable()
    wires = [link.wire for link in topology.every_link]
    assert all(link.emulated for link in topology.every_link)
    assert len(set(wires)) == len(wires)


# ---- in a lab --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ring() -> Iterator[Fleet]:
    lab = Lab(fresh_name())
    try:
        lab.up("ring6", faultable=True)
        fleet = Fleet(lab)
        fleet.start(print)
        yield fleet
    finally:
        lab.down()


def settled(fleet: Fleet, wanted: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
    """The picture, once it is what is wanted or time is up: XDP and carriers of a node that starts take a moment."""
    end = time.monotonic() + patience
    while (found := picture(fleet)) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    return found


@pytest.mark.lab
@pytest.mark.root
def test_a_bare_link_refuses_faults_and_says_what_to_do(make_lab: Callable[[str], Lab]) -> None:
    lab = make_lab("pair")
    fleet = Fleet(lab)
    for text in ("link c1-c2 loss=5%", "node c1 kill"):
        with pytest.raises(LabError, match="--wires"):
            fault(fleet, text)
    with pytest.raises(LabError, match="bare"):
        fault(fleet, "node c1 freeze")
    assert state.texts(lab) == []


@pytest.mark.lab
@pytest.mark.root
def test_each_kind_is_seen_in_the_picture_and_taken_back(ring: Fleet) -> None:
    before = picture(ring)
    fault(ring, "node g4 clock=+1h")
    pid = nodes.daemon(ring, "g4")
    assert pid is not None
    assert nodes.clock(pid) == "+3600"
    for text in ("node g5 disk-full", "node g6 freeze", "node g3 kill-daemon", "node g2 kill", "link g1-g6 down"):
        fault(ring, text)
    fault(ring, "master lag=50ms")
    fault(ring, "master stop")
    found = picture(ring)
    assert found["processes"] == before["processes"] | {"g6": "frozen", "g3": "none", "g2": "none", "master": "none"}
    assert found["disks"]["g5"]
    with pytest.raises(OSError, match="No space"):
        (ring.lab.node_directory("g5") / "more").write_bytes(b"x")
    assert "NO-CARRIER" in found["ports"]["g1"]["u-g6"]["flags"]
    assert "NO-CARRIER" in found["ports"]["g1"]["u-g2"]["flags"]
    undo(ring)
    assert settled(ring, before) == before
    ring.wait_connected()


@pytest.mark.lab
@pytest.mark.root
def test_random_faults_never_wedge_the_lab_and_undo_restores_it(ring: Fleet) -> None:
    before = picture(ring)
    dice = random.Random(SEED)
    start = time.monotonic()
    done: list[Done] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: set[Future[Done]] = set()
        for number in range(FAULTS):
            running.add(pool.submit(carry_out, ring, random_fault(dice, ring.topology)))
            if len(running) >= AT_ONCE:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                done += [future.result() for future in ended]
            time.sleep(max(0.0, start + (number + 1) * PACE - time.monotonic()))
        done += [future.result() for future in running]
    took = time.monotonic() - start
    for each in done:
        if each.refused:
            print(f"{each.text}: {each.refused}")
    slowest = max(done, key=lambda each: each.seconds)
    assert len(done) == FAULTS and slowest.seconds < promised(60), slowest
    undo(ring)
    assert settled(ring, before) == before
    ring.wait_connected()
    refused = sum(bool(each.refused) for each in done)
    print(f"{FAULTS} faults in {took:.0f} s, {refused} refused, slowest {slowest.seconds:.1f} s; seed {SEED}")


@dataclass(frozen=True)
class Done:
    text: str
    seconds: float
    refused: str
    """The end of why."""


def carry_out(fleet: Fleet, text: str) -> Done:
    """Refusals are fine, such as to thaw what is dead, or to start on a full disk; nothing else is."""
    begun, refused = time.monotonic(), ""
    try:
        fault(fleet, text)
    except LabError as error:
        refused = str(error)[-200:]
    return Done(text, time.monotonic() - begun, refused)


def random_fault(dice: random.Random, topology: Topology) -> str:
    """Half of links, a third of nodes."""
    link = dice.choice(topology.links)
    node = dice.choice(topology.members).name
    kind = dice.random()
    if kind < 0.6:
        way = dice.choice(["down", "up", "up", "blackhole", "plain", "loss=5%", "delay=30ms jitter=5ms", "mtu=1300"])
        return f"link {link.name} {way}"
    if kind < 0.93:
        verbs = ["kill", "restart", "restart", "kill-daemon", "freeze", "thaw", "clock=+1h", "disk-full"]
        return f"node {node} {dice.choice(verbs)}"
    return f"master {dice.choice(['stop', 'start', 'start', 'lag=100ms'])}"
