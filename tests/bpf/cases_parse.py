# SPDX-License-Identifier: Apache-2.0
"""What is not a frame goes to the kernel as it came."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import BODY, IN, STRANGER, Case, edit, forwarded, frame, packet

GOOD = packet()
ETH = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
IP_AT, UDP_AT = 14, 34
UDP_FRAME = UDP(sport=IN.sport, dport=IN.dport) / Raw(frame())


def _ip(**fields: Any) -> IP:
    return IP(src=IN.src, dst=IN.dst, **fields)


def _dark(world: h.World) -> None:
    world.config.dark = 1


def _be16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def passed(name: str, data: Packet | bytes, reason: str, **more: Any) -> Case:
    return Case(name, bytes(data), h.XDP_PASS, reason, **more)


CASES = [
    passed("arp", ETH / ARP(), "PASS_NOT_IP"),
    passed("arp padded", (bytes(ETH / ARP())).ljust(60, b"\0"), "PASS_NOT_IP"),
    passed("ipv6", ETH / IPv6() / UDP_FRAME, "PASS_NOT_IP"),
    passed("vlan", ETH / Dot1Q(vlan=5) / _ip() / UDP_FRAME, "PASS_NOT_IP"),
    passed("stacked vlan", ETH / Dot1Q(vlan=5, type=0x8100) / Dot1Q(vlan=6) / _ip() / UDP_FRAME, "PASS_NOT_IP"),
    passed("802.3 length instead of a type", edit(GOOD, 12, _be16(100)), "PASS_NOT_IP"),
    passed("ethernet header alone, not IP", ETH / Raw(b""), "PASS_NOT_IP"),
    passed("ethernet header alone, IP", edit(bytes(ETH), 12, _be16(0x0800))[:14], "PASS_TRUNCATED"),
    passed("IP version 6 under the IPv4 type", edit(GOOD, IP_AT, b"\x65"), "PASS_NOT_IP"),
    passed("IP version 0", edit(GOOD, IP_AT, b"\x05"), "PASS_NOT_IP"),
    passed("IP header length 4", edit(GOOD, IP_AT, b"\x44"), "PASS_TRUNCATED"),
    passed("IP header length 0", edit(GOOD, IP_AT, b"\x40"), "PASS_TRUNCATED"),
    passed("IP header length 6", edit(GOOD, IP_AT, b"\x46"), "PASS_IP_OPTIONS"),
    passed("IP header length 15", edit(GOOD, IP_AT, b"\x4f"), "PASS_IP_OPTIONS"),
    passed("real IP options", ETH / _ip(options=[IPOption_NOP()] * 4) / UDP_FRAME, "PASS_IP_OPTIONS"),
    passed("tcp", ETH / _ip() / TCP() / Raw(BODY), "PASS_NOT_UDP"),
    passed("icmp", ETH / _ip() / ICMP() / Raw(BODY), "PASS_NOT_UDP"),
    passed("protocol 255", edit(GOOD, IP_AT + 9, b"\xff"), "PASS_NOT_UDP"),
    passed("first fragment", ETH / _ip(flags="MF") / UDP_FRAME, "PASS_FRAGMENT"),
    passed("middle fragment", ETH / _ip(flags="MF", frag=100) / UDP_FRAME, "PASS_FRAGMENT"),
    passed("last fragment", ETH / _ip(frag=1) / UDP_FRAME, "PASS_FRAGMENT"),
    passed("highest fragment offset", ETH / _ip(frag=0x1FFF) / UDP_FRAME, "PASS_FRAGMENT"),
    passed("IP length one above the frame", edit(GOOD, IP_AT + 2, _be16(len(GOOD) - 13)), "PASS_TRUNCATED"),
    passed("IP length 0", edit(GOOD, IP_AT + 2, _be16(0)), "PASS_TRUNCATED"),
    passed("IP length 65535", edit(GOOD, IP_AT + 2, _be16(65535)), "PASS_TRUNCATED"),
    passed("UDP length one below", edit(GOOD, UDP_AT + 4, _be16(len(GOOD) - 35)), "PASS_TRUNCATED"),
    passed("UDP length one above", edit(GOOD, UDP_AT + 4, _be16(len(GOOD) - 33)), "PASS_TRUNCATED"),
    passed("UDP length 0", edit(GOOD, UDP_AT + 4, _be16(0)), "PASS_TRUNCATED"),
    passed("empty datagram", packet(b""), "PASS_TRUNCATED"),
    passed("payload of 31 bytes", packet(frame(body=BODY[:16])[:31]), "PASS_TRUNCATED"),
    passed("payload of 31 bytes, padded", packet(frame()[:31]) + bytes(40), "PASS_TRUNCATED"),
    passed("unknown source address", packet(flow=o.Flow("198.51.100.2", IN.sport, IN.dst, IN.dport)), "PASS_NO_LINK"),
    passed("unknown source port", packet(flow=o.Flow(IN.src, IN.sport + 1, IN.dst, IN.dport)), "PASS_NO_LINK"),
    passed("unknown local address", packet(flow=o.Flow(IN.src, IN.sport, "192.0.2.8", IN.dport)), "PASS_NO_LINK"),
    passed("unknown local port", packet(flow=o.Flow(IN.src, IN.sport, IN.dst, IN.dport + 1)), "PASS_NO_LINK"),
    passed("ports swapped", packet(flow=o.Flow(IN.src, IN.dport, IN.dst, IN.sport)), "PASS_NO_LINK"),
    passed("addresses swapped", packet(flow=o.Flow(IN.dst, IN.sport, IN.src, IN.dport)), "PASS_NO_LINK"),
    passed("stranger", packet(flow=STRANGER), "PASS_NO_LINK"),
    passed("dark: arp passes", ETH / ARP(), "PASS_NOT_IP", change=_dark),
    passed("dark: tcp passes", ETH / _ip() / TCP(), "PASS_NOT_UDP", change=_dark),
    passed(
        "dark: another port's datagram passes",
        packet(flow=o.Flow("9.9.9.9", 53, IN.dst, 5353)),
        "PASS_NO_LINK",
        change=_dark,
    ),
    Case("dark: stranger on our port", packet(flow=STRANGER), h.XDP_DROP, "PASS_NO_LINK", change=_dark),
    Case("shortest frame", packet(frame(body=BODY[:16])), h.XDP_TX, "OK_FORWARD", out=forwarded(body=BODY[:16])),
    Case("DF set", packet(flags="DF"), h.XDP_TX, "OK_FORWARD", out=forwarded()),
    Case("evil bit set", packet(flags=4), h.XDP_TX, "OK_FORWARD", out=forwarded()),
    Case("TTL 1, every TOS bit", packet(ttl=1, tos=0xFF), h.XDP_TX, "OK_FORWARD", out=forwarded()),
    Case("ethernet padding is cut", GOOD + b"trailer", h.XDP_TX, "OK_FORWARD", out=forwarded()),
]
