# SPDX-License-Identifier: Apache-2.0
"""What runs keeps running: through the death of every key daemon, a change of program, rekeys, and without the Master.

A numbered UDP flow counts every lost packet; its rate is far below what the lab carries, so a loss has another cause.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest

from veilnet.lab import measure
from veilnet.lab.fleet import REALM, Fleet

pytestmark = [pytest.mark.lab, pytest.mark.root]

RATE = 2000.0  # packets a second
_SWAP = "import sys; from veilnet.loader import dataplane; dataplane.swap(sys.argv[1])"


def seconds(short: float, long: float) -> float:
    """Length of a flow: `long` under ./run soak."""
    return long if os.environ.get("VEILNET_SOAK") else short


def connected(fleet: Fleet) -> str:
    address = fleet.overlay_address("c2")
    measure.first_packet_ms(fleet.lab, "c1", address)
    return address


def assert_complete(flow: dict[str, float]) -> None:
    assert flow["received"] == flow["sent"], f"{flow['sent'] - flow['received']:.0f} of {flow['sent']:.0f} lost: {flow}"
    assert flow["duplicates"] == 0, flow


def handshakes(fleet: Fleet) -> int:
    """Knocks that any node has taken: each full handshake has at least two."""
    return sum(fleet.status(node.name)["data_plane"]["OK_KNOCK"] for node in fleet.topology.members)


def test_kill_every_daemon_under_load_loses_nothing(line3: Fleet) -> None:
    address = connected(line3)
    before = handshakes(line3)
    epochs = [row["age_s"] for row in line3.status("c1")["streams"]]
    with measure.counted_flow(line3.lab, "c1", "c2", address, rate=RATE, seconds=seconds(40, 120)) as flow:
        time.sleep(1)
        for node in line3.topology.members:
            line3.kill(node.name)
        time.sleep(2)  # on keys in the kernel alone
        line3.start_nodes()
    assert_complete(flow)
    assert epochs
    assert handshakes(line3) == before, "a restart must not make new handshakes"


def test_program_swap_under_load_loses_nothing(line3: Fleet) -> None:
    address = connected(line3)
    with measure.counted_flow(line3.lab, "c1", "c2", address, rate=RATE, seconds=seconds(25, 60)) as flow:
        time.sleep(0.5)
        for node in ("g2", "c2", "c1"):
            measure.output(line3.lab, node, [sys.executable, "-c", _SWAP, line3.lab.instance(node)])
    assert_complete(flow)


def test_rekey_every_two_seconds_loses_nothing(line3: Fleet) -> None:
    line3.admin("realm", "settings", REALM, "--rekey-seconds", "2")
    try:
        address = connected(line3)
        time.sleep(3)
        before = line3.status("c1")
        length = seconds(15, 300)
        with measure.counted_flow(line3.lab, "c1", "c2", address, rate=RATE, seconds=length) as flow:
            pass
        after = line3.status("c1")
    finally:
        line3.admin("realm", "settings", REALM, "--rekey-seconds", "120")
    assert_complete(flow)
    for kind in ("links", "streams"):
        rekeys = max(row["epoch"] for row in after[kind]) - max(row["epoch"] for row in before[kind])
        assert rekeys >= length / 2 / 2, f"{kind}: {rekeys} rekeys in {length} s"


def test_new_stream_while_the_master_is_away(make_fleet: Callable[[str], Fleet]) -> None:
    fleet = make_fleet("line3")
    fleet.kill("master")
    time.sleep(seconds(2, 120))
    assert fleet.status("c1")["streams"] == []
    address = fleet.overlay_address("c2")
    assert measure.first_packet_ms(fleet.lab, "c1", address) <= 1000
    assert measure.rtt_ms(fleet.lab, "c1", address) < 100
    fleet.start_master()
    assert "10.90." in fleet.admin("node", "list")
