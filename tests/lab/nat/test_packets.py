# SPDX-License-Identifier: Apache-2.0
"""Whole packets through the programs: every byte of the output, checksums included, as scapy builds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.lab.nat.rig import Pair
from veilnet.lab import nat
from veilnet.lab.nat import Dependence, NatKind, Ports
from veilnet.lab.nat.translator import ROOT
from veilnet.loader import libbpf

pytestmark = [pytest.mark.lab]

OK, SHOT = 0, 2  # linux/pkt_cls.h
INSIDE, PUBLIC, REMOTE = "10.0.0.2", "203.0.113.1", "203.0.113.10"
KIND = NatKind(ports=Ports.SEQUENTIAL, port_range=(2000, 2000), filtering=Dependence.ENDPOINT_INDEPENDENT)


class Node:
    """The three programs of a NAT, called with packets."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextmanager
    def _program(self, program: str) -> Iterator[int]:
        fd = libbpf.obj_get(next(ROOT.glob(f"*/{self.name}/prog_{program}")))
        yield fd
        os.close(fd)

    def run(self, program: str, packet: Packet) -> bytes | None:
        """IP packet that comes out, None if it was dropped."""
        with self._program(program) as fd:
            done = libbpf.test_run(fd, bytes(Ether(type=0x0800) / packet))
        assert done.verdict in {OK, SHOT}
        return done.data[14:] if done.verdict == OK else None

    def out(self, packet: Packet) -> bytes | None:
        return self.run("nat_out", packet)

    def into(self, packet: Packet) -> bytes | None:
        return self.run("nat_in", packet)


def udp(src: str, sport: int, dst: str, dport: int, data: bytes = b"payload", **ip: Any) -> Packet:
    return IP(src=src, dst=dst, id=7, **ip) / UDP(sport=sport, dport=dport) / Raw(data)


@pytest.fixture
def node(pair: Pair) -> Node:
    """A NAT whose only port is 2000, so that outputs are known."""
    pair.apply(KIND)
    return Node(pair.node)


@pytest.fixture
def mapped(node: Node) -> Node:
    """With the mapping 10.0.0.2:5000 - 203.0.113.1:2000."""
    assert node.out(udp(INSIDE, 5000, REMOTE, 53)) is not None
    return node


@pytest.mark.parametrize("data", [b"", b"x", b"payload", bytes(1400), b"\xff" * 1400])
def test_udp_both_ways(node: Node, data: bytes) -> None:
    assert node.out(udp(INSIDE, 5000, REMOTE, 53, data)) == bytes(udp(PUBLIC, 2000, REMOTE, 53, data))
    assert node.into(udp(REMOTE, 53, PUBLIC, 2000, data)) == bytes(udp(REMOTE, 53, INSIDE, 5000, data))


def test_ip_options_stay(mapped: Node) -> None:
    options: dict[str, Any] = {"options": b"\x94\x04\x00\x00"}  # router alert, RFC 2113
    assert mapped.out(udp(INSIDE, 5000, REMOTE, 53, **options)) == bytes(udp(PUBLIC, 2000, REMOTE, 53, **options))


def test_no_checksum_stays_none(mapped: Node) -> None:
    before, after = udp(REMOTE, 53, PUBLIC, 2000), udp(REMOTE, 53, INSIDE, 5000)
    before[UDP].chksum = after[UDP].chksum = 0
    assert mapped.into(before) == bytes(after)


def test_a_checksum_that_becomes_zero_is_written_as_ones(mapped: Node) -> None:
    """RFC 768: zero means none. The payload makes the sum behind the NAT come out as zero."""
    plain = IP(bytes(udp(REMOTE, 53, INSIDE, 5000, b"\0\0")))[UDP].chksum
    data = plain.to_bytes(2, "big")
    assert IP(bytes(udp(REMOTE, 53, INSIDE, 5000, data)))[UDP].chksum in {0, 0xFFFF}
    got = mapped.into(udp(REMOTE, 53, PUBLIC, 2000, data))
    assert got is not None and IP(got)[UDP].chksum == 0xFFFF


def test_echo_both_ways(node: Node) -> None:
    def echo(kind: int, src: str, dst: str, number: int) -> Packet:
        return IP(src=src, dst=dst) / ICMP(type=kind, id=number, seq=3) / Raw(b"payload")

    assert node.out(echo(8, INSIDE, REMOTE, 99)) == bytes(echo(8, PUBLIC, REMOTE, 2000))
    assert node.into(echo(0, REMOTE, PUBLIC, 2000)) == bytes(echo(0, REMOTE, INSIDE, 99))


def quoting(src: str, dst: str, quoted: Packet, **icmp: Any) -> Packet:
    return IP(src=src, dst=dst) / ICMP(**icmp) / IP(bytes(quoted)[:56])


@pytest.mark.parametrize(
    "icmp", [{"type": 3, "code": 4, "nexthopmtu": 1280}, {"type": 3, "code": 3}, {"type": 11}, {"type": 12}]
)
def test_an_error_is_translated_with_what_it_quotes(mapped: Node, icmp: dict[str, Any]) -> None:
    sent, shown = udp(PUBLIC, 2000, REMOTE, 53), udp(INSIDE, 5000, REMOTE, 53)
    assert mapped.into(quoting("192.0.2.9", PUBLIC, sent, **icmp)) == bytes(quoting("192.0.2.9", INSIDE, shown, **icmp))
    got, public = udp(REMOTE, 53, INSIDE, 5000), udp(REMOTE, 53, PUBLIC, 2000)
    assert mapped.out(quoting(INSIDE, REMOTE, got, **icmp)) == bytes(quoting(PUBLIC, REMOTE, public, **icmp))


def test_an_error_does_not_keep_the_mapping(mapped: Node) -> None:
    before = nat.mappings(mapped.name)[0].idle
    mapped.into(quoting(REMOTE, PUBLIC, udp(PUBLIC, 2000, REMOTE, 53), type=3, code=3))
    assert nat.mappings(mapped.name)[0].idle > before


def test_an_error_about_nobodys_packet_goes_nowhere(mapped: Node) -> None:
    strange = quoting(INSIDE, REMOTE, udp(REMOTE, 53, INSIDE, 6000), type=3, code=3)
    assert mapped.out(strange) is None
    own = quoting(REMOTE, PUBLIC, udp(PUBLIC, 2001, REMOTE, 53), type=3, code=3)
    assert mapped.into(own) == bytes(own), "left to the node's own stack"


def test_fragments_follow_their_first(mapped: Node) -> None:
    def pieces(src: str, sport: int, dst: str, dport: int) -> list[bytes]:
        whole = IP(bytes(udp(src, sport, dst, dport, bytes(3000))))
        return [bytes(piece) for piece in fragment(whole, 1000)]  # type: ignore[no-untyped-call]

    arriving, expected = pieces(REMOTE, 53, PUBLIC, 2000), pieces(REMOTE, 53, INSIDE, 5000)
    assert mapped.into(IP(arriving[1])) is None, "the first has not been seen"
    assert [mapped.into(IP(piece)) for piece in arriving] == expected
    leaving, shown = pieces(INSIDE, 5000, REMOTE, 53), pieces(PUBLIC, 2000, REMOTE, 53)
    assert [mapped.out(IP(piece)) for piece in leaving] == shown


def test_what_is_cut_short_is_dropped(mapped: Node) -> None:
    whole = bytes(udp(REMOTE, 53, PUBLIC, 2000))
    for length in range(20, 28):
        assert mapped.into(Raw(whole[:length])) is None


def test_what_is_not_its_business_passes(mapped: Node) -> None:
    multicast = udp(REMOTE, 5353, "224.0.0.251", 5353)
    assert mapped.into(multicast) == bytes(multicast)
    own = udp(PUBLIC, 9, REMOTE, 9)
    assert mapped.out(own) == bytes(own)
    assert mapped.into(udp(REMOTE, 53, INSIDE, 5000)) is None, "round the NAT"
    assert mapped.out(IP(src=INSIDE, dst=REMOTE) / ICMP(type=13)) is None
