# SPDX-License-Identifier: Apache-2.0
"""coturn (Debian's package) as a relay: a client makes an allocation and binds a channel, the rig's generator then
sends ChannelData (RFC 8656) to it, and the sink counts what turnserver passes on.

turnserver has the rig's core to itself: generator and the kernel's receive path run on the other one. So two figures
are taken: packets per second of wall time, and per second of CPU time spent on relaying, turnserver's and the kernel's
softirqs on both cores, which is what one core could carry; `Rate.per_softirq` is the same of the others."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

from bench.netrig import (
    CORE,
    NETNS_DIR,
    Rate,
    RelayRig,
    all_softirq_seconds,
    inside,
    process_seconds,
)
from veilnet.loader.program import Program

COOKIE = 0x2112A442  # RFC 8489 section 5
ALLOCATE, CHANNEL_BIND, SUCCESS = 0x0003, 0x0009, 0x0100
REQUESTED_TRANSPORT, CHANNEL_NUMBER, XOR_PEER_ADDRESS = 0x0019, 0x000C, 0x0012
CHANNEL = 0x4000
SERVER, CLIENT, PEER = ("10.77.0.2", 3478), ("10.77.0.1", 40001), ("10.77.1.1", 43001)
OFFERED = 200_000.0
LOSS_MAX = 0.01
TRIALS = 7


def available() -> bool:
    return shutil.which("turnserver") is not None


def version() -> str:
    text = subprocess.run(["turnserver", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return f"coturn {text[-1]}" if text else "coturn"


def saturated(rig: RelayRig, frame: int, sessions: int) -> float:
    """Frames passed on per second of CPU time, while it is offered more than it can take; its losses do not count."""
    with _loaded(rig, frame, sessions) as (generator, pid):
        rig.offer(generator, frame, OFFERED)
        return _per_cpu_second(rig, generator, pid, frame, OFFERED)[1]


def lossless(rig: RelayRig, frame: int, sessions: int) -> tuple[float, float]:
    """Best rate at which less than 1 % is lost, found by bisection: (frames/s, frames per CPU second at that rate).

    Other load on the machine lowers the first.
    """
    best, low, high = (0.0, 0.0), 0.0, OFFERED
    with _loaded(rig, frame, sessions) as (generator, pid):
        for _ in range(TRIALS):
            offered = (low + high) / 2
            rate, per_second = _per_cpu_second(rig, generator, pid, frame, offered)
            low, high = (offered, high) if rate.loss < LOSS_MAX else (low, offered)
            if rate.loss < LOSS_MAX:
                best = max(best, (rate.pps, per_second))
    return best


def _per_cpu_second(rig: RelayRig, generator: Program, pid: int, frame: int, offered: float) -> tuple[Rate, float]:
    def spent() -> float:
        return process_seconds(pid) + all_softirq_seconds()

    before = spent()
    rate = rig.offer(generator, frame, offered)
    return rate, rate.arrived / (spent() - before)


@contextmanager
def _loaded(rig: RelayRig, frame: int, sessions: int) -> Iterator[tuple[Program, int]]:
    """turnserver with a bound channel for each session; the generator that feeds it, and its pid."""
    rig.attach(rig.relay, "r0", rig.load("xdp_pass.c", "xdp_pass"))
    generator = rig.load("bench_gen.c", "bench_gen_turn")
    with _server(rig) as pid, ExitStack() as clients:
        for at in range(sessions):
            clients.enter_context(_allocation(rig, CLIENT[1] + at))
        rig.aim(CLIENT, SERVER, frame, sessions)
        rig.gen.channel = int.from_bytes(CHANNEL.to_bytes(2, "big"), "little")
        yield generator, pid


@contextmanager
def _server(rig: RelayRig) -> Iterator[int]:
    """turnserver in the relay's namespace, on the rig's core; its pid."""
    command = ["nsenter", f"--net={NETNS_DIR / rig.relay}", "taskset", "-c", str(CORE), "turnserver", "-n", "-z"]
    options = ["-L", SERVER[0], "-E", "10.77.1.2", "-p", str(SERVER[1]), "-m", "1", "--no-tls", "--no-dtls", "--no-cli"]
    logs = ["--log-file", "stdout", "--simple-log", "--no-software-attribute", "--pidfile", os.devnull]
    process = subprocess.Popen([*command, *options, *logs], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        if process.poll() is not None:
            raise RuntimeError(f"turnserver ended with {process.returncode}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _allocation(rig: RelayRig, port: int) -> Iterator[None]:
    """A client's allocation with a channel to PEER; it lasts for as long as the socket's 5-tuple is known, 600 s."""
    with inside(rig.edge), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((CLIENT[0], port))
        client.connect(SERVER)
        client.settimeout(2)
        _request(client, ALLOCATE, _attribute(REQUESTED_TRANSPORT, bytes([17, 0, 0, 0])))
        peer = struct.pack(">BBHI", 0, 1, PEER[1] ^ COOKIE >> 16, int(IPv4Address(PEER[0])) ^ COOKIE)
        channel = _attribute(CHANNEL_NUMBER, struct.pack(">HH", CHANNEL, 0))
        _request(client, CHANNEL_BIND, channel + _attribute(XOR_PEER_ADDRESS, peer))
        yield


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value


def _request(client: socket.socket, method: int, attributes: bytes) -> None:
    transaction = os.urandom(12)
    client.send(struct.pack(">HHI", method, len(attributes), COOKIE) + transaction + attributes)
    answer = client.recv(2048)
    kind = struct.unpack_from(">H", answer)[0]
    if answer[8:20] != transaction or kind != method | SUCCESS:
        raise RuntimeError(f"turnserver answered {kind:#06x} to {method:#06x}")
