# SPDX-License-Identifier: Apache-2.0
"""Two hosts through one forwarding node, same wire for all: RTT, small UDP packets, one TCP stream.

Segmentation offload is off on every port of the underlay, so that each frame crosses it by itself as on a wire. TCP is
measured once more with it on for the peers, a figure that no wire carries, and printed beside.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import ours
from bench.circuits import resident
from bench.pair import Pair, Tunnel, daemon, wait_for
from bench.peers import nebula, wireguard
from bench.report import Row, middle, row
from veilnet.lab.journal import LabError

OURS = "VeilNet"
PINGS, PING_INTERVAL = 100, 0.02
UDP_BYTES = 64
LOSS_MAX = 1.0
"""Percent."""
UDP_SECONDS, TCP_SECONDS = 2, 4
UDP_START, UDP_STEP, UDP_FINE = 20_000, 1.5, 3
"""Packets/s offered first; factor while it goes well; bisections after it did not."""
METRICS = {
    "rtt": ("tunnel RTT, median", "ms"),
    "udp": (f"tunnel, {UDP_BYTES} B UDP delivered, < 1 % loss", "kpps"),
    "tcp": ("tunnel TCP, one stream, same wire", "Mbit/s"),
    "rss": ("keyd resident memory, larger of Conflux and Guardian, one circuit", "MB"),
    "offload": ("tunnel TCP, one stream, offloads on (no wire carries it)", "Mbit/s"),
}


def rows(runs: int) -> list[Row]:
    """One row per metric; a tunnel that does not come up is named on stderr and absent from the rows."""
    tunnels: dict[str, Tunnel] = {OURS: ours.tunnel, **wireguard.tunnels(), **nebula.tunnels()}
    figures: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    for name, tunnel in tunnels.items():
        try:
            _measure(name, tunnel, runs, figures)
        except (RuntimeError, OSError, LabError, subprocess.SubprocessError) as error:
            print(f"bench: {name} not measured: {error}", file=sys.stderr)
    result = []
    for metric, (title, unit) in METRICS.items():
        mine = figures[metric].pop(OURS, None)
        result.append(row(title, unit, mine, figures[metric]))
    return result


def _measure(name: str, tunnel: Tunnel, runs: int, figures: dict[str, dict[str, float]]) -> None:
    with tunnel(False) as pair, _iperf_server(pair):
        figures["rtt"][name] = middle(runs, lambda: _rtt(pair))
        figures["udp"][name] = middle(runs, lambda: _udp(pair)) / 1e3
        figures["tcp"][name] = middle(runs, lambda: _tcp(pair))
        if pair.daemons:
            figures["rss"][name] = max(resident(pid) for pid in pair.daemons)
    if name != OURS:
        with tunnel(True) as pair, _iperf_server(pair):
            figures["offload"][name] = middle(runs, lambda: _tcp(pair))


@contextmanager
def _iperf_server(pair: Pair) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with daemon(pair.far, ["iperf3", "-s", "--forceflush"], log):
            wait_for("iperf3", lambda: "listening" in log.read_text(encoding="utf-8"))
            yield


def _rtt(pair: Pair) -> float:
    """Median of single round trips, ms."""
    text = pair.run(pair.near, ["ping", "-c", str(PINGS), "-i", str(PING_INTERVAL), pair.address])
    return median(float(value) for value in re.findall(r"time=([0-9.]+) ms", text))


def _udp(pair: Pair) -> float:
    """Best delivered rate, packets/s, at a loss under LOSS_MAX."""
    best, offered, low, high, fine = 0.0, float(UDP_START), 0.0, 0.0, UDP_FINE
    while fine:
        rate, loss = _udp_trial(pair, offered)
        if loss < LOSS_MAX:
            best, low = max(best, rate), offered
        else:
            high = offered
        if high or rate < 0.9 * offered * (1 - loss / 100):  # iperf3 itself can send no faster
            fine -= 1
        offered = (low + high) / 2 if high else offered * UDP_STEP
    return best


def _udp_trial(pair: Pair, pps: float) -> tuple[float, float]:
    """(delivered packets/s, loss in percent) of UDP_SECONDS at an offered rate."""
    rate = ["-u", "-l", str(UDP_BYTES), "-b", str(int(pps * UDP_BYTES * 8)), "-t", str(UDP_SECONDS)]
    text = pair.run(pair.near, ["iperf3", "-c", pair.address, *rate, "--pacing-timer", "200", "--json"])
    end = json.loads(text)["end"]["sum"]
    delivered = end["packets"] - end["lost_packets"]
    return delivered / end["seconds"], 100 * end["lost_packets"] / max(end["packets"], 1)


def _tcp(pair: Pair) -> float:
    """Mbit/s of payload received."""
    text = pair.run(pair.near, ["iperf3", "-c", pair.address, "-t", str(TCP_SECONDS), "-O", "1", "--json"])
    return float(json.loads(text)["end"]["sum_received"]["bits_per_second"]) / 1e6
