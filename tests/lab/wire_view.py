# SPDX-License-Identifier: Apache-2.0
"""What an observer on a wire can do: record datagrams, inject forged ones, count what comes back.

    python tests/lab/wire_view.py DEVICE < jobs     run inside the wire's namespace; one JSON object in, one out

Job: {"from": mac, "to": mac, "source": [ip, port], "target": [ip, port], "payloads": [hex, ...]}. The answer counts
what the target sent back through DEVICE: {"icmp 3/3": n, "udp": n, ...}.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

ETH_P_ALL = 3
ETH_P_IP = 0x0800
SETTLE = 0.5  # seconds of silence after which nothing more comes, where each datagram has its answer
OUTSTANDING = 5.0  # the same where answers are missing: the target may have had no CPU
ON_THEIR_WAY = 128  # unanswered datagrams at a time: half of what the ring of a veth holds
PACE = 0.05  # seconds to wait for answers before the next 16 datagrams go out all the same


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(job: dict[str, Any], payload: bytes) -> bytes:
    """Ethernet frame of one UDP datagram, checksum 0 (none, RFC 768)."""
    source, target = job["source"], job["target"]
    udp = struct.pack("!4H", source[1], target[1], 8 + len(payload), 0) + payload
    addresses = IPv4Address(source[0]).packed + IPv4Address(target[0]).packed
    head = struct.pack("!2B3H2BH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    ethernet = bytes.fromhex(job["to"].replace(":", "") + job["from"].replace(":", "")) + struct.pack("!H", ETH_P_IP)
    return ethernet + head + udp


def kind(frame: bytes, job: dict[str, Any]) -> str | None:
    """What an incoming frame is, if it goes from target to source: "icmp TYPE/CODE", "ip PROTOCOL", or, between their
    ports, "udp". The target has traffic of its own, on other ports."""
    wanted = IPv4Address(job["target"][0]).packed + IPv4Address(job["source"][0]).packed
    if frame[12:14] != struct.pack("!H", ETH_P_IP) or frame[26:34] != wanted:
        return None
    protocol = frame[23]
    if protocol == socket.IPPROTO_ICMP:
        return f"icmp {frame[34]}/{frame[35]}"
    if protocol != socket.IPPROTO_UDP:
        return f"ip {protocol}"
    return "udp" if struct.unpack_from("!2H", frame, 34) == (job["target"][1], job["source"][1]) else None


def run(device: str, job: dict[str, Any]) -> dict[str, int]:
    answers: Counter[str] = Counter()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as line:
        line.bind((device, ETH_P_ALL))
        line.setblocking(False)
        for count, payload in enumerate(job["payloads"]):
            line.send(datagram(job, bytes.fromhex(payload)))
            if count % 16 == 15:
                keep_pace(line, job, answers, count - ON_THEIR_WAY)
        last = time.monotonic()
        while time.monotonic() - last < (SETTLE if answers.total() >= len(job["payloads"]) else OUTSTANDING):
            if drain(line, job, answers):
                last = time.monotonic()
            time.sleep(0.01)
    return dict(answers)


def keep_pace(line: socket.socket, job: dict[str, Any], answers: Counter[str], wanted: int) -> None:
    """Until so many answers are there: the target shares our processor. Not for long, as it need not answer."""
    until = time.monotonic() + PACE
    drain(line, job, answers)
    while answers.total() < wanted and time.monotonic() < until:
        time.sleep(0.0005)
        drain(line, job, answers)


def drain(line: socket.socket, job: dict[str, Any], answers: Counter[str]) -> int:
    """Count the frames that have come in; the socket also shows what we sent."""
    read = 0
    try:
        while True:
            frame, address = line.recvfrom(2048)
            what = kind(frame, job) if address[2] != socket.PACKET_OUTGOING else None
            if what:
                answers[what] += 1
                read += 1
    except BlockingIOError:
        return read


def payloads(pcap: Path) -> list[tuple[tuple[str, int], tuple[str, int], bytes]]:
    """(source, target, payload) of every UDP datagram in a capture that tcpdump wrote (Ethernet, IPv4)."""
    data = pcap.read_bytes()
    found, at = [], 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP:
            sport, dport, size = struct.unpack_from("!3H", frame, 34)
            ends = (str(IPv4Address(frame[26:30])), sport), (str(IPv4Address(frame[30:34])), dport)
            found.append((*ends, frame[42 : 34 + size]))
    return found


if __name__ == "__main__":
    json.dump(run(sys.argv[1], json.load(sys.stdin)), sys.stdout)
