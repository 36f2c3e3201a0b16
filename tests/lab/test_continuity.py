# SPDX-License-Identifier: Apache-2.0
"""What runs keeps running: through the death of every key daemon, a change of program, rekeys, and without the Master.

A numbered UDP flow counts every lost packet; its rate is far below what the lab carries, so a loss has another cause.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.patience import SLOWNESS, SOAK, promised, wait_for
from veilnet.contract import REASON_CLASS
from veilnet.lab import measure
from veilnet.lab.fleet import REALM, Fleet

pytestmark = [pytest.mark.lab, pytest.mark.root]

RATE = 2000.0  # packets a second
ROUNDS = {"kill": 5, "swap": 200} if SOAK else {"kill": 1, "swap": 10}

# A whole swap, then ROUNDS times the generation before and after it, on every device. Prints how often it replaced one.
_SWAP = """
import sys, time
from veilnet.loader import attach, dataplane, libbpf, pins
instance, rounds = sys.argv[1], int(sys.argv[2])
old = {nic: libbpf.prog_fd(number) for nic, number in attach.attached(pins.program_ids(instance)).items()}
dataplane.swap(instance)
new = {nic: libbpf.prog_fd(number) for nic, number in attach.attached(pins.program_ids(instance)).items()}
ours = {libbpf.prog_id(fd) for fd in (*old.values(), *new.values())}
assert old.keys() == new.keys() and len(ours) >= 2
count = len(new)
for _ in range(rounds):
    for generation in (old, new):
        for nic, fd in generation.items():
            attach.attach_xdp(nic, fd, ours=ours)
            count += 1
            time.sleep(0.002)
print(count)
"""


def seconds(short: float, long: float) -> float:
    """Length of a flow: `long` under ./run soak."""
    return long if SOAK else short


def connected(fleet: Fleet) -> str:
    address = fleet.overlay_address("c2")
    measure.first_packet_ms(fleet.lab, "c1", address)
    return address


def drops(fleet: Fleet) -> Counter[str]:
    """Frames dropped, by node and reason."""
    return Counter(
        {
            f"{node.name} {reason}": count
            for node in fleet.topology.members
            for reason, count in fleet.status(node.name)["data_plane"].items()
            if REASON_CLASS[reason] == "DROP"
        }
    )


@contextmanager
def nothing_lost(fleet: Fleet, address: str, length: float = math.inf) -> Iterator[None]:
    """A numbered flow from c1 to an address for `length` seconds, or while the body runs. Each packet arrives once."""
    before = drops(fleet)
    with measure.counted_flow(fleet.lab, "c1", "c2", address, rate=RATE, seconds=length) as flow:
        yield
    lost = flow["sent"] - flow["received"]
    assert not lost, f"{lost:.0f} of {flow['sent']:.0f} lost; longest gap {flow['longest_gap_ms']} ms; " + (
        f"dropped: {drops(fleet) - before}"
    )
    assert flow["duplicates"] == 0, flow


def handshakes(fleet: Fleet) -> int:
    """Knocks that any node has taken: each full handshake has at least two."""
    return sum(fleet.status(node.name)["data_plane"]["OK_KNOCK"] for node in fleet.topology.members)


def test_kill_every_daemon_under_load_loses_nothing(line3: Fleet) -> None:
    address = connected(line3)
    before = handshakes(line3)
    with nothing_lost(line3, address):
        for _ in range(ROUNDS["kill"]):
            time.sleep(1)
            for node in line3.topology.members:
                line3.kill(node.name)
            time.sleep(2)  # on keys in the kernel alone
            line3.start_nodes()
        time.sleep(2)
    assert handshakes(line3) == before, "a restart must not make new handshakes"


def test_tcp_goes_on_while_every_daemon_is_killed(line3: Fleet) -> None:
    address = connected(line3)
    before = handshakes(line3)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(measure.tcp_mbit, line3.lab, "c1", "c2", address, 5)
        time.sleep(1.5)
        for node in line3.topology.members:
            line3.kill(node.name)
        assert running.result() > 10 / SLOWNESS, "Mbit/s"
    line3.start_nodes()
    assert handshakes(line3) == before


def test_program_swap_under_load_loses_nothing(line3: Fleet) -> None:
    """Each node once with freshly compiled programs, then back and forth between two loaded generations."""
    address = connected(line3)
    swapped = 0
    with nothing_lost(line3, address):
        for node in ("g2", "c2", "c1"):
            command = [sys.executable, "-c", _SWAP, line3.lab.instance(node), str(ROUNDS["swap"])]
            swapped += int(measure.output(line3.lab, node, command, timeout=600))
        time.sleep(1)
    assert swapped >= 6 * ROUNDS["swap"], "devices that carry a program: two, three and three"


@contextmanager
def rekeying(fleet: Fleet, interval: int) -> Iterator[None]:
    fleet.admin("realm", "settings", REALM, "--rekey-seconds", str(interval))
    try:
        time.sleep(3)
        yield
    finally:
        fleet.admin("realm", "settings", REALM, "--rekey-seconds", "120")


def epochs(fleet: Fleet) -> dict[str, int]:
    """Highest epoch of c1's links and streams."""
    status = fleet.status("c1")
    return {kind: max(row["epoch"] for row in status[kind]) for kind in ("links", "streams")}


def rekeys(fleet: Fleet, before: dict[str, int]) -> int:
    """How often c1's links, or its streams, whichever are behind, have got new keys since."""
    return min(epoch - before[kind] for kind, epoch in epochs(fleet).items())


def test_rekey_every_two_seconds_loses_nothing(line3: Fleet) -> None:
    address, count = connected(line3), 75 if SOAK else 5
    with rekeying(line3, 2):
        before = epochs(line3)
        with nothing_lost(line3, address):
            took = wait_for(lambda: rekeys(line3, before) >= count, promised(4.0 * count), every=0.5)
    print(f"{count} rekeys in {took:.0f} s")


STAR = """\
name: star
nodes:
  master: {role: master}
  c1: {role: conflux}
  g1: {role: guardian}
  c2: {role: conflux}
  c3: {role: conflux}
links:
  - [c1, g1]
  - [g1, c2]
  - [g1, c3]
"""


def test_without_the_master_streams_run_and_rekey_and_new_ones_come_up(
    make_fleet: Callable[[str], Fleet], tmp_path: Path
) -> None:
    (tmp_path / "star.yml").write_text(STAR)
    fleet = make_fleet(str(tmp_path / "star.yml"))
    address, third = connected(fleet), fleet.overlay_address("c3")
    fleet.admin("realm", "settings", REALM, "--rekey-seconds", "2")
    time.sleep(1)
    fleet.kill("master")
    before = epochs(fleet)
    with nothing_lost(fleet, address):
        time.sleep(seconds(10, 120))
        assert {row["peer"] for row in fleet.status("c1")["streams"]} == {"c2"}
        assert measure.first_packet_ms(fleet.lab, "c1", third) <= promised(1000)
        assert measure.rtt_ms(fleet.lab, "c1", third) < promised(100)
        wait_for(lambda: rekeys(fleet, before) >= 2)
    fleet.start_master()
    assert "c3" in fleet.admin("node", "list")
