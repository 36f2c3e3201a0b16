# SPDX-License-Identifier: Apache-2.0
"""What can be measured from inside a lab's nodes with ping, iperf3 and ss."""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab

IPERF_PORT = 5201


def output(lab: Lab, node: str, command: Sequence[str], timeout: float = 120.0) -> str:
    """Standard output of a command inside a node. Raises LabError with what it said when it fails."""
    line = lab.command(node, list(command))
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        msg = f"{node}: `{' '.join(command)}` ended with {done.returncode}: {said}"
        raise LabError(msg)
    return done.stdout


def first_packet_ms(lab: Lab, node: str, address: str, deadline: float = 60.0) -> float:
    """Time from the start of ping to its first answer, ms; the stream that it needs is made meanwhile."""
    command = lab.command(node, ["stdbuf", "-oL", "ping", "-n", "-i", "0.2", "-w", str(int(deadline)), address])
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
        try:
            for line in ping.stdout or ():
                if "bytes from" in line:
                    return (time.monotonic() - start) * 1000
        finally:
            ping.kill()
    msg = f"{node}: no answer from {address} in {deadline:.0f} s"
    raise LabError(msg)


def rtt_ms(lab: Lab, node: str, address: str, count: int = 20) -> float:
    """Median round trip of `count` pings, ms; a lost one is an error."""
    text = output(lab, node, ["ping", "-n", "-i", "0.05", "-c", str(count), "-W", "2", address])
    times = [float(value) for value in re.findall(r"time=([0-9.]+) ms", text)]
    if len(times) != count:
        msg = f"{node}: {count - len(times)} of {count} pings to {address} lost"
        raise LabError(msg)
    return statistics.median(times)


def tcp_mbit(lab: Lab, client: str, server: str, address: str, seconds: int = 5) -> float:
    """Goodput of one TCP stream as the receiver saw it, Mbit/s."""
    report = _iperf(lab, client, server, address, ["-t", str(seconds)])
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def udp_kpps(lab: Lab, client: str, server: str, address: str, seconds: int = 5) -> tuple[float, float]:
    """(delivered thousand packets a second, share lost) of a flood of 64-byte UDP payloads."""
    report = _iperf(lab, client, server, address, ["-u", "-b", "0", "-l", "64", "-t", str(seconds)])
    total = report["end"]["sum"]
    delivered = total["packets"] - total["lost_packets"]
    return delivered / total["seconds"] / 1000, total["lost_packets"] / max(total["packets"], 1)


def _iperf(
    lab: Lab, client: str, server: str, address: str, arguments: list[str]
) -> dict[str, dict[str, dict[str, float]]]:
    with _server(lab, server, address):
        text = output(lab, client, ["iperf3", "-J", "-c", address, "-p", str(IPERF_PORT), *arguments])
    report: dict[str, dict[str, dict[str, float]]] = json.loads(text)
    return report


@contextmanager
def _server(lab: Lab, node: str, address: str) -> Iterator[None]:
    command = lab.command(node, ["iperf3", "-s", "-1", "-B", address, "-p", str(IPERF_PORT)])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_listening(lab, node)
            yield
        finally:
            server.kill()


def _wait_listening(lab: Lab, node: str, deadline: float = 30.0) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if output(lab, node, ["ss", "-Hltn", f"sport = :{IPERF_PORT}"]):
            return
        time.sleep(0.02)
    msg = f"{node}: iperf3 does not listen after {deadline:.0f} s"
    raise LabError(msg)


def udp_sockets(lab: Lab, nodes: Sequence[str]) -> list[str]:
    """Bound UDP sockets inside these nodes, as `ss` lists them."""
    return [f"{node}: {line}" for node in nodes for line in output(lab, node, ["ss", "-Hulpn"]).splitlines()]


@contextmanager
def counted_flow(
    lab: Lab, client: str, server: str, address: str, *, rate: float, seconds: float = math.inf, port: int = 9000
) -> Iterator[dict[str, float]]:
    """A numbered UDP flow of `seconds`, or as long as the body runs; then the dict holds sent, received, duplicates,
    longest_gap_ms."""
    module = [sys.executable, "-m", "veilnet.lab.flow"]
    receiver = lab.command(server, [*module, "receive", address, str(port), "2"])
    sender = lab.command(client, [*module, "send", address, str(port), str(rate), str(seconds)])
    result: dict[str, float] = {}
    with _talking(receiver) as receiving:
        with _talking(sender) as sending:
            yield result
            if seconds == math.inf:
                sending.terminate()
            result |= json.loads(sending.communicate(timeout=60 + (seconds if seconds < math.inf else 0))[0])
        result |= json.loads(receiving.communicate(timeout=60)[0])


@contextmanager
def _talking(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has said "ready"; killed when the body fails."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield process
        finally:
            process.kill()
