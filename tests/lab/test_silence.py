# SPDX-License-Identifier: Apache-2.0
"""To whoever lacks the keys, VeilNet's port is a closed port: what it gets back is the same in kind and count.

             observer
                |
c1 ---------- wire0 ---------- g1 ---------- c2      c1, c2 Confluxes, g1 Guardian
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import wire_view
from tests.lab.conftest import running
from tests.patience import PATIENCE, wait_for
from tests.protocol.uniformity import MIN_DATAGRAMS, assert_uniform, suspicious
from veilnet.contract import HS_LEN, REASON_CLASS
from veilnet.lab import measure
from veilnet.lab.fleet import REALM, Fleet
from veilnet.lab.net import nic

pytestmark = [pytest.mark.lab, pytest.mark.root]

DATAGRAMS = 100_000 if os.environ.get("VEILNET_SOAK") else 10_000
FLOW_RATE, FLOW_SECONDS = 3000.0, 8.0
SCRIPT = Path(wire_view.__file__)
TOPOLOGY = """\
name: watched
nodes:
  master: {role: master}
  c1: {role: conflux}
  g1: {role: guardian}
  c2: {role: conflux}
links:
  - {ends: [c1, g1], wire: true}
  - [g1, c2]
"""
Datagram = tuple[tuple[str, int], tuple[str, int], bytes]


@dataclass
class Watched:
    fleet: Fleet
    recorded: list[Datagram]
    """All that went over wire0 from before the first handshake on: handshakes, data, control, keepalives, rekeys."""


@contextmanager
def recording(fleet: Fleet, path: Path) -> Iterator[None]:
    # nanosecond or microsecond stamps are all the same here; -U so that nothing stays in a buffer
    command = ["tcpdump", "-i", "g1", "-s", "0", "-U", "-B", "65536", "-w", str(path), "--immediate-mode", "udp"]
    with subprocess.Popen(fleet.lab.command("wire0", command), stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr
        while "listening" not in tcpdump.stderr.readline():
            assert tcpdump.poll() is None
        try:
            yield
        finally:
            tcpdump.send_signal(signal.SIGINT)
            tcpdump.communicate(timeout=PATIENCE)


def rekeyed(fleet: Fleet) -> int:
    """Lowest epoch of c1's links and streams."""
    status = fleet.status("c1")
    return min(int(row["epoch"]) for row in (*status["links"], *status["streams"]))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.yml").write_text(TOPOLOGY)
    with running(str(folder / "watched.yml")) as fleet:
        address = fleet.overlay_address("c2")
        fleet.admin("realm", "settings", REALM, "--rekey-seconds", "2")
        with recording(fleet, folder / "all.pcap"):
            measure.first_packet_ms(fleet.lab, "c1", address)
            with measure.counted_flow(fleet.lab, "c1", "c2", address, rate=FLOW_RATE) as flow:
                time.sleep(FLOW_SECONDS)
                wait_for(lambda: rekeyed(fleet) >= 2, what="the recording has no rekeys")
        assert flow["received"] == flow["sent"]
        fleet.admin("realm", "settings", REALM, "--rekey-seconds", "120")
        time.sleep(1)
        yield Watched(fleet, wire_view.payloads(folder / "all.pcap"))


def test_every_datagram_on_the_wire_looks_uniformly_random(watched: Watched) -> None:
    seen = [payload for _, _, payload in watched.recorded]
    assert len(seen) >= MIN_DATAGRAMS
    assert any(len(payload) == HS_LEN for payload in seen), "handshakes are among them"
    assert_uniform(seen)
    for offset in (0, 8, 39):  # the same recording with one byte that tells types apart, as other tunnels have it
        marked = [payload[:offset] + bytes([len(payload) == HS_LEN]) + payload[offset + 1 :] for payload in seen]
        assert offset in suspicious(marked)
    counted = [number.to_bytes(4, "little") + payload[4:] for number, payload in enumerate(seen)]
    assert suspicious(counted), "a counter in clear"


def underlay(watched: Watched, node: str, peer: str) -> tuple[str, str]:
    """(address, MAC) of a node's NIC."""
    text = measure.output(watched.fleet.lab, node, ["ip", "-j", "address", "show", "dev", nic(peer)])
    row = json.loads(text)[0]
    return row["addr_info"][0]["local"], row["address"]


def hostile(watched: Watched, target: tuple[str, int], rng: random.Random) -> list[bytes]:
    """A quarter each: random bytes, real frames with one bit changed, real frames again, knocks again."""
    real = [payload for _, to, payload in watched.recorded if to == target]
    knocks = [payload for payload in real if len(payload) == HS_LEN]
    assert real
    quarter = DATAGRAMS // 4
    out = [rng.randbytes(rng.choice((0, 1, 15, 16, 40, 104, HS_LEN, 1400))) for _ in range(quarter)]
    for _ in range(quarter):
        changed = bytearray(rng.choice(real))
        changed[rng.randrange(32)] ^= 1 << rng.randrange(8)  # what the hop tag covers
        out.append(bytes(changed))
    out += [rng.choice(real) for _ in range(quarter)]
    out += [rng.choice(knocks or real) for _ in range(DATAGRAMS - len(out))]
    rng.shuffle(out)
    return out


def inject(watched: Watched, device: str, job: dict[str, object]) -> dict[str, int]:
    command = watched.fleet.lab.command("wire0", [sys.executable, str(SCRIPT), device])
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def unlimited_icmp(fleet: Fleet, node: str) -> None:
    script = (
        "for f in icmp_ratelimit=0 icmp_msgs_per_sec=10000000 icmp_msgs_burst=10000000; do sysctl -qw net.ipv4.$f; done"
    )
    measure.output(fleet.lab, node, ["sh", "-ec", script])


@contextmanager
def stopped(fleet: Fleet, nodes: list[str]) -> Iterator[None]:
    """Their daemons say nothing meanwhile, so that whatever the target counts is the observer's."""
    pids = [fleet.pid(node) for node in nodes]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("known", [True, False], ids=["from a neighbour's address and port", "from a strange port"])
@pytest.mark.parametrize(("target", "peer"), [("g1", "c1"), ("c1", "g1")], ids=["guardian", "conflux"])
def test_hostile_datagrams_get_what_a_closed_port_gives(watched: Watched, target: str, peer: str, known: bool) -> None:
    fleet = watched.fleet
    (address, mac), (peer_address, peer_mac) = underlay(watched, target, peer), underlay(watched, peer, target)
    ends = {(source, to) for source, to, _ in watched.recorded if to[0] == address}
    source, to = next(iter(ends))
    unlimited_icmp(fleet, target)
    sport = source[1] if known else source[1] ^ 1
    closed = next(port for port in range(40000, 40100) if port not in {to[1], sport})
    data = [payload.hex() for payload in hostile(watched, to, random.Random(4))]
    job = {"from": peer_mac, "to": mac, "source": [peer_address, sport], "payloads": data}
    with stopped(fleet, [node.name for node in fleet.topology.members if node.name != target]):
        before = fleet.status(target)["data_plane"]
        answers = inject(watched, target, {**job, "target": to})
        after = fleet.status(target)["data_plane"]
        reference = inject(watched, target, {**job, "target": [address, closed]})
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    taken = {name: count for name, count in changed.items() if REASON_CLASS[name] != "PASS" and name != "OK_CTL"}
    assert not taken, f"accepted or dropped: {changed}"
    assert sum(count for name, count in changed.items() if name.startswith("PASS_")) >= len(data)
    # on a link's own ports its daemon asks by itself whether the peer is alive; no event has told it to
    assert answers.pop("udp", 0) <= (changed.get("OK_CTL", 0) if known else 0)
    assert reference == {"icmp 3/3": len(data)}
    assert answers == reference
