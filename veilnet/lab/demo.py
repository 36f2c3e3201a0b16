# SPDX-License-Identifier: Apache-2.0
"""`./run demo`: five nodes enrolled with tokens, a stream made on demand through three Guardians, and its figures."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from veilnet import contract
from veilnet.lab import measure
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology import TopologyError

FIRST_PACKET_LIMIT_MS = 1000.0
CLIENT, SERVER = "c1", "c2"


@dataclass(frozen=True)
class Figures:
    """What the demo measures; the keys of its JSON file."""

    rtt_ms: float
    """Median of 20 pings from end to end."""
    tcp_mbit: float
    """Goodput of one TCP stream."""
    udp_kpps: float
    """64-byte UDP payloads delivered, thousands a second, under a flood."""
    hops: int
    """Guardians on the path."""
    suite: str
    first_packet_ms: float
    """From the first ping's start to its answer, the stream made meanwhile."""
    enrol_ms: float
    """Median over the nodes: from the start of the process with a token to the Master's answer on disk."""
    python_data_frames: int
    """Frames that reached the key daemons through a circuit and were neither control nor handshake."""
    udp_sockets: int
    """UDP sockets on Guardians and Confluxes before any traffic of ours."""
    frames_dropped: dict[str, int]
    """Frames dropped on all nodes by reason, from after start-up (whose self-tests drop on purpose) to the end."""

    def broken_promises(self) -> list[str]:
        broken = []
        if self.first_packet_ms > FIRST_PACKET_LIMIT_MS:
            broken.append(f"first packet after {self.first_packet_ms:.0f} ms, promised {FIRST_PACKET_LIMIT_MS:.0f}")
        if self.udp_sockets:
            broken.append(f"{self.udp_sockets} UDP sockets, promised none")
        if self.python_data_frames:
            broken.append(f"{self.python_data_frames} data frames reached Python, promised none")
        return broken


def run(lab: Lab) -> Figures:
    """Bring line3 up, measure, leave the lab as it is."""
    print("== five nodes and a Master: c1 - g1 - g2 - g3 - c2")
    lab.up("line3")
    fleet = Fleet(lab)
    fleet.start(lambda text: print(f"   {text}"))
    members = [node.name for node in lab.topology.members]
    sockets = measure.udp_sockets(lab, members)
    address = fleet.overlay_address(SERVER)
    before = {name: fleet.status(name) for name in members}
    print(f"== first ping from {CLIENT} to {SERVER} ({address}); its stream is made on demand")
    first = measure.first_packet_ms(lab, CLIENT, address)
    print("== ping, TCP, UDP through the tunnel")
    rtt = measure.rtt_ms(lab, CLIENT, address)
    tcp = measure.tcp_mbit(lab, CLIENT, SERVER, address)
    udp, _ = measure.udp_kpps(lab, CLIENT, SERVER, address)
    after = {name: fleet.status(name) for name in members}
    stream = next(row for row in after[CLIENT]["streams"] if row["peer"] == SERVER and row["path"])
    return Figures(
        rtt_ms=round(rtt, 3),
        tcp_mbit=round(tcp, 1),
        udp_kpps=round(udp, 1),
        hops=sum(lab.topology.nodes[name].role == "guardian" for name in stream["path"]),
        suite=after[CLIENT]["suite"],
        first_packet_ms=round(first, 1),
        enrol_ms=round(statistics.median(fleet.enrol_ms.values()), 1),
        python_data_frames=sum(after[name]["data_frames"] for name in members),
        udp_sockets=len(sockets),
        frames_dropped=_dropped(before, after),
    )


def _dropped(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Each DROP reason that occurred in between, summed over the nodes."""
    total: Counter[str] = Counter()
    for node, status in after.items():
        for name, count in status["data_plane"].items():
            if contract.REASON_CLASS[name] == "DROP":
                total[name] += count - before[node]["data_plane"][name]
    return {name: count for name, count in total.items() if count}


def report(figures: Figures) -> None:
    print("== figures")
    for name, value in asdict(figures).items():
        print(f"   {name:20} {json.dumps(value) if isinstance(value, dict) else value}")
    for line in figures.broken_promises():
        print(f"   BROKEN: {line}")


def _terminate(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="run demo", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as one JSON object")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is to be seen through a pipe, too
    lab = Lab(f"{os.environ.get('VEILNET_LAB_PREFIX', 'x')}demo")
    start = time.monotonic()
    try:
        figures = run(lab)
    except (LabError, TopologyError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        lab.down()
    report(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(figures)) + "\n", encoding="utf-8")
    print(f"   {time.monotonic() - start:.0f} s; nothing is left behind")
    return 1 if figures.broken_promises() else 0


if __name__ == "__main__":
    raise SystemExit(main())
