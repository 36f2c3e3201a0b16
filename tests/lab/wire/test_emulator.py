# SPDX-License-Identifier: Apache-2.0
"""Frames through live wires."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.wire.rig import BYTES, Rig, Run, running
from tests.patience import wait_for
from veilnet.lab.wire.control import Control, WireError, command
from veilnet.lab.wire.impairment import ETHERNET_HEADER, Burst, Impairment, Queue
from veilnet.lab.wire.model import decisions
from veilnet.lab.wire.settings import direction_seed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FAST, SLOW = 20_000, 60_000  # ns between frames


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running(tmp_path) as made:
        yield made


def expected(rig: Rig, name: str, seed: int, impairment: Impairment, count: int) -> set[int]:
    fates = decisions(direction_seed(seed, name, 0), impairment, [BYTES - ETHERNET_HEADER] * count)
    return {n for n, fate in enumerate(fates) if fate}


def test_same_seed_same_drops_whatever_the_timing(rig: Rig) -> None:
    impairment, count = Impairment(delay=0.003, jitter=0.002, loss=Burst(p=0.05, r=0.3), duplicate=0.02), 10_000
    seen = []
    for seed, interval in ((1, FAST), (1, SLOW), (2, FAST)):
        name = rig.add(0, seed, name="same")
        rig.control.change(name, 0, impairment)
        arrived = set(rig.measure(0, count, interval).numbers)
        assert arrived == expected(rig, name, seed, impairment, count)
        seen.append(arrived)
        rig.control.remove(name)
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_counters_add_up(rig: Rig) -> None:
    name = rig.add(0)
    rig.control.change(name, 0, Impairment(delay=0.002, loss=0.1, duplicate=0.1, reorder=0.2, gap=3))
    arrivals = len(rig.measure(0, 5000, FAST))
    counters = rig.control.counters(name, 0)
    assert (counters.frames_in, counters.bytes_in) == (5000, 5000 * BYTES)
    assert counters.frames_out == arrivals
    assert counters.bytes_out == arrivals * BYTES
    assert counters.frames_out == 5000 + counters.duplicated - counters.dropped["loss"]
    assert counters.duplicated > 300 and counters.dropped["loss"] > 300 and counters.reordered > 300
    assert (counters.queued_frames, counters.overrun) == (0, 0)
    assert rig.control.counters(name, 1).frames_in == 0


@pytest.mark.parametrize("queue", [Queue(frames=20), Queue(bytes=20 * BYTES), Queue(seconds=20 * BYTES * 8 / 8e6)])
def test_rate_and_queue(rig: Rig, queue: Queue) -> None:
    """8 Mbit/s, room for 20 frames, more than twice the rate offered."""
    name, count, takes = rig.add(0), 10_000, BYTES * 8 / 8e6
    rig.control.change(name, 0, Impairment(rate=8e6, queue=queue))
    run = rig.measure(0, count, 70_000)
    counters = rig.control.counters(name, 0)
    assert counters.overrun == 0
    assert counters.dropped["queue"] == count - len(run)
    assert run.numbers == sorted(run.numbers)
    assert run.spacing > 0.99 * takes
    assert statistics.median(run.gaps) < 1.1 * takes
    # whoever had no CPU: the queue was full where the next frame was dropped, and what came late came later still
    taken = set(run.numbers)
    full = [late for n, late in zip(run.numbers, run.latencies, strict=True) if n + 1 < count and n + 1 not in taken]
    assert len(full) > count / 20
    assert statistics.quantiles(full, n=100)[0] > 18.9 * takes  # a stall of the host's moves single frames
    assert statistics.quantiles(full, n=10)[0] < 21 * takes


def test_mtu_hole(rig: Rig) -> None:
    name = rig.add(0)
    rig.control.change(name, 0, Impairment(mtu=1400))
    assert len(rig.measure(0, 50, FAST, size=1400 + ETHERNET_HEADER)) == 50
    assert len(rig.measure(0, 50, FAST, size=1401 + ETHERNET_HEADER)) == 0
    assert rig.control.counters(name, 0).dropped["mtu"] == 50


def test_blackhole_at_run_time_is_logged(rig: Rig) -> None:
    name = rig.add(0)
    assert len(rig.measure(0, 50, FAST)) == 50
    rig.control.change(name, 0, Impairment(blackhole=True))
    assert len(rig.measure(0, 50, FAST)) == 0
    rig.control.change(name, 0, Impairment())
    assert len(rig.measure(0, 50, FAST)) == 50
    assert rig.control.counters(name, 0).dropped["blackhole"] == 50
    assert f"set {name} 0 blackhole=1: ok" in rig.log.read_text()


# The kernel takes a tag out of the bytes before packet sockets see them: PACKET_AUXDATA (8) has it, tci at byte 16.
_TAGGED = """
import socket
out, back = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2))
back.bind(("n0b", 3)), out.bind(("n0a", 3)), back.setsockopt(263, 8, 1), back.settimeout(60)
out.send(bytes.fromhex("020000000002020000000001" "8100a005" "88b5") + bytes(range(60)))
data, extra, *_ = back.recvmsg(2000, 100)
print(data.hex(), int.from_bytes(extra[0][2][16:18], "little") == 0xA005)
"""


def test_vlan_tags_stay(rig: Rig) -> None:
    rig.add(0)
    words = rig.run(sys.executable, "-c", _TAGGED).split()
    assert words == ["02000000000202000000000188b5" + bytes(range(60)).hex(), "True"]


def wait_for_carrier(rig: Rig, device: str) -> None:
    """The kernel's link watch wakes a sender's queue up to a second after the other end came up."""
    wait_for(lambda: "state UP" in rig.run("ip", "link", "show", "dev", device))


def test_device_down_and_up_again(rig: Rig) -> None:
    name = rig.add(0)
    rig.ip("link set dev w0b down")
    assert len(rig.measure(0, 20, FAST)) == 0
    assert rig.control.counters(name, 0).dropped["send"] == 20
    rig.ip("link set dev w0b up")
    rig.ip("link set dev w0a down")
    time.sleep(0.05)
    rig.ip("link set dev w0a up")
    wait_for_carrier(rig, "n0a")
    assert len(rig.measure(0, 20, FAST)) == 20


def test_remove_with_frames_on_the_way(rig: Rig) -> None:
    name = rig.add(0)
    rig.control.change(name, 0, Impairment(delay=30.0))
    rig.measure(0, 100, FAST)
    assert rig.control.counters(name, 0).queued_frames == 100
    rig.control.remove(name)
    rig.add(0, name=name)
    assert len(rig.measure(0, 100, FAST)) == 100


@pytest.mark.parametrize(
    ("request_words", "answer"),
    [
        (("add", "wire0", "-", "nowhere", "-", "nowhere", "256", "1", "1"), "wire wire0: No such device"),
        (("add", "wire0", "/nowhere", "lo", "-", "lo", "256", "1", "1"), "wire wire0: No such file or directory"),
        (("add", "wire0"), "wire wire0: Invalid argument"),
        (("remove", "wire9"), "no wire wire9"),
        (("set", "wire9", "0"), "no wire wire9"),
        (("counters",), "no wire"),
        (("table", "99"), "table number"),
        (("dance",), "request dance"),
    ],
)
def test_bad_requests(rig: Rig, request_words: tuple[str, ...], answer: str) -> None:
    with pytest.raises(WireError, match=answer):
        rig.control._ask(*request_words)
    rig.add(0)
    assert len(rig.measure(0, 20, FAST)) == 20  # and it serves on


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("2",), "direction"),
        (("0", "speed=1"), "setting speed"),
        (("0", "delay_ns"), "setting delay_ns"),
        (("0", "queue_frames=99999999"), "queue_frames"),
    ],
)
def test_bad_settings_change_nothing(rig: Rig, words: tuple[str, ...], answer: str) -> None:
    name = rig.add(0)
    with pytest.raises(WireError, match=answer):
        rig.control._ask("set", name, *words)
    assert len(rig.measure(0, 20, FAST)) == 20


def test_one_emulator_a_socket(rig: Rig) -> None:
    done = subprocess.run(command(rig.path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    with Control(rig.path) as control:
        assert control.pid == rig.pid


def test_socket_of_a_killed_emulator_is_replaced(rig: Rig) -> None:
    rig.control.close()
    os.kill(rig.pid, signal.SIGKILL)
    os.waitpid(rig.pid, 0)
    assert rig.path.exists()
    rig.start()
    rig.add(0)
    assert len(rig.measure(0, 20, FAST)) == 20


def test_sigterm_ends_cleanly(rig: Rig) -> None:
    rig.add(0)
    rig.control.close()
    os.kill(rig.pid, signal.SIGTERM)
    assert os.waitpid(rig.pid, 0)[1] == 0
    assert not rig.path.exists()
    rig.start()


def test_a_stall_reorders_nothing(rig: Rig) -> None:
    """Frames that waited for longer than the emulator believes a time of arrival leave before later ones."""
    name = rig.add(0)
    rig.control.change(name, 0, Impairment(delay=0.04))
    sender = rig.sender(0, 8000, 200_000)
    for stop in (0.15, 0.4):
        time.sleep(0.3)
        os.kill(rig.pid, signal.SIGSTOP)
        time.sleep(stop)
        os.kill(rig.pid, signal.SIGCONT)
    numbers = Run(sender.communicate()[0]).numbers
    assert len(numbers) == 8000
    assert numbers == sorted(numbers)
