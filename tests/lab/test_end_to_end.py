# SPDX-License-Identifier: Apache-2.0
"""Real nodes through the real command: packets arrive, over the path they should, no socket and no Python on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.patience import PATIENCE, promised
from veilnet import contract
from veilnet.lab import measure
from veilnet.lab.fleet import Fleet

pytestmark = [pytest.mark.lab, pytest.mark.root]

MEBIBYTES = 8
_SERVE = """
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], 9100))
print("ready", flush=True)
connection, _ = server.accept()
digest = hashlib.sha256()
while data := connection.recv(65536):
    digest.update(data)
print(digest.hexdigest(), flush=True)
"""
_SEND = """
import hashlib, socket, sys
data = hashlib.shake_128(b"veilnet").digest(int(sys.argv[2]))
with socket.create_connection((sys.argv[1], 9100), 60) as connection:
    connection.sendall(data)
"""


def transfer(fleet: Fleet, address: str) -> str:
    """Send MEBIBYTES of known bytes from c1 to c2 by TCP; SHA-256 of what arrived."""
    serve = fleet.lab.command("c2", [sys.executable, "-c", _SERVE, address])
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            measure.output(fleet.lab, "c1", [sys.executable, "-c", _SEND, address, str(MEBIBYTES << 20)])
            return server.communicate(timeout=PATIENCE)[0].strip()
        finally:
            server.kill()


def reasons(fleet: Fleet, node: str) -> dict[str, int]:
    found: dict[str, int] = fleet.status(node)["data_plane"]
    return found


def test_first_ping_makes_the_stream_through_three_guardians(line3: Fleet) -> None:
    address = line3.overlay_address("c2")
    first = measure.first_packet_ms(line3.lab, "c1", address)
    assert first <= promised(1000), "token in hand to first packet"
    streams = [row for row in line3.status("c1")["streams"] if row["peer"] == "c2" and row["path"]]
    assert [name for name in streams[0]["path"] if name != "c2"] == ["g1", "g2", "g3"]


def test_ping_is_relayed_by_every_guardian_in_the_kernel(line3: Fleet) -> None:
    address = line3.overlay_address("c2")
    measure.first_packet_ms(line3.lab, "c1", address)
    before = {node: reasons(line3, node) for node in ("g1", "g2", "g3")}
    assert measure.rtt_ms(line3.lab, "c1", address, count=50) < promised(100)
    for node, counts in before.items():
        after = reasons(line3, node)
        assert after["OK_FORWARD"] - counts["OK_FORWARD"] >= 100, node
        dropped = {name for name in after if contract.REASON_CLASS[name] == "DROP" and after[name] > counts[name]}
        assert not dropped, node


def test_tcp_carries_every_byte(line3: Fleet) -> None:
    measure.first_packet_ms(line3.lab, "c1", line3.overlay_address("c2"))
    wanted = hashlib.sha256(hashlib.shake_128(b"veilnet").digest(MEBIBYTES << 20)).hexdigest()
    assert transfer(line3, line3.overlay_address("c2")) == wanted


def test_no_udp_socket_on_any_node(line3: Fleet) -> None:
    assert measure.udp_sockets(line3.lab, [node.name for node in line3.topology.members]) == []


def test_a_guardian_shows_neighbours_only(line3: Fleet) -> None:
    measure.first_packet_ms(line3.lab, "c1", line3.overlay_address("c2"))
    status = line3.status("g2")
    assert {link["peer"] for link in status["links"]} <= {"g1", "g3"}
    assert {name for leg in status["legs"] for name in (leg["previous"], leg["next"])} <= {"g1", "g3", None}


def test_pair_without_a_guardian(make_fleet: Callable[[str], Fleet]) -> None:
    fleet = make_fleet("pair")
    address = fleet.overlay_address("c2")
    measure.first_packet_ms(fleet.lab, "c1", address)
    assert measure.rtt_ms(fleet.lab, "c1", address) < promised(100)
    wanted = hashlib.sha256(hashlib.shake_128(b"veilnet").digest(MEBIBYTES << 20)).hexdigest()
    assert transfer(fleet, address) == wanted
