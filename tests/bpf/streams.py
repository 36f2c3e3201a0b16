# SPDX-License-Identifier: Apache-2.0
"""Streams and routes in a test's maps, and inner packets; what sealing and opening are tested with."""

from __future__ import annotations

import ctypes
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Address, ip_network
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.bpf import oracle
from tests.bpf.harness import World, words
from veilnet import contract as c
from veilnet.loader import libbpf
from veilnet.loader.maps import network_key

rng = random.Random(7)
LINK, LABEL, BUDGET, STREAM, PEER = 5, 0xABCDEF, 9, 40, 17
FLOW = oracle.Flow("198.51.100.7", 4500, "192.0.2.1", 51820)
"""As frames from the neighbour arrive; ours go the other way."""
RX_HP, TX_HP = rng.randbytes(16), rng.randbytes(16)
RX_KEYS, TX_KEYS = (rng.randbytes(32), rng.randbytes(32)), (rng.randbytes(32), rng.randbytes(32))
HOP_RX, HOP_TX = (oracle.SipKey(rng.randbytes(16), rng.randbytes(16)) for _ in range(2))
MAC0, MAC0P = b"\x02\x11\x11\x11\x11\x11", b"\x02\x22\x22\x22\x22\x22"
VEIL0P = 3
OWN = (c.PEER_SELF, 0)
HERE4, PEER4, HERE6, PEER6 = "10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2"


def put_stream(world: World, index: int = STREAM, *, lane: int = 0, lanes: int = 1) -> Any:
    """A stream lane that is up, over LINK and LABEL, with both key slots filled."""
    stream = world.streams[index]
    stream.peer, stream.out_link, stream.out_label, stream.budget = PEER, LINK, LABEL, BUDGET
    stream.lane, stream.lanes = lane, lanes
    stream.rx_hp[:], stream.tx_hp[:] = words(RX_HP), words(TX_HP)
    for slot in (0, 1):
        for side, keys in ((stream.rx, RX_KEYS), (stream.tx, TX_KEYS)):
            side[slot].key[:] = struct.unpack("<8I", keys[slot])
            side[slot].valid = 1
    stream.state = c.STREAM_UP
    return stream


def setup(world: World) -> Any:
    """Configuration, link and stream; gives the stream."""
    cfg = world.config
    cfg.emit, cfg.inner_mtu, cfg.veil0p_ifindex = c.EMIT_REDIRECT, c.INNER_MAX, VEIL0P
    cfg.veil0_mac[:], cfg.veil0p_mac[:] = MAC0, MAC0P
    world.put_link(LINK, FLOW, rx=(HOP_RX, None), tx=(HOP_TX, None), mtu=1600)
    return put_stream(world)


def route_key(prefix: str) -> bytes:
    net = ip_network(prefix)
    if isinstance(net, IPv4Network):
        net = ip_network((IPv6Address(f"::ffff:{net.network_address}"), 96 + net.prefixlen))
    return struct.pack("<I", net.prefixlen) + net.network_address.packed


def put_route(world: World, prefix: str, target: tuple[int, int]) -> None:
    """Set or change one route, prefix → (peer, stream)."""
    fd = libbpf.obj_get(world.pins / "routes")
    libbpf.map_update(fd, route_key(prefix), bytes(c.Route(peer=target[0], stream=target[1])))
    os.close(fd)


@contextmanager
def routes(world: World, entries: dict[str, tuple[int, int]]) -> Iterator[None]:
    """Overlay routes, prefix → (peer, stream), for the time of the block."""
    fd = libbpf.obj_get(world.pins / "routes")
    for prefix, target in entries.items():
        put_route(world, prefix, target)
    try:
        yield
    finally:
        for prefix in entries:
            libbpf.map_delete(fd, route_key(prefix))


@contextmanager
def networks(world: World, entries: dict[tuple[int, str], tuple[int, int]]) -> Iterator[None]:
    """Networks behind Confluxes, (scope, prefix) → (peer, stream), for the time of the block."""
    fd = libbpf.obj_get(world.pins / "networks")
    keys = {bytes(network_key(scope, ip_network(prefix))): target for (scope, prefix), target in entries.items()}
    for key, (peer, stream) in keys.items():
        libbpf.map_update(fd, key, bytes(c.Route(peer=peer, stream=stream)))
    try:
        yield
    finally:
        for key in keys:
            libbpf.map_delete(fd, key)
        os.close(fd)


def inner4(length: int, src: str = HERE4, dst: str = PEER4) -> bytes:
    """An IPv4 packet of `length` >= 28 bytes."""
    return bytes(IP(src=src, dst=dst) / UDP(sport=1, dport=2) / Raw(rng.randbytes(length - 28)))


def inner6(length: int, src: str = HERE6, dst: str = PEER6) -> bytes:
    """An IPv6 packet of `length` >= 48 bytes."""
    return bytes(IPv6(src=src, dst=dst) / UDP(sport=1, dport=2) / Raw(rng.randbytes(length - 48)))


def from_host(inner: bytes, *, pad: int = 0) -> bytes:
    """As veil0 sends it, with `pad` bytes of Ethernet padding."""
    return ethernet(MAC0P, MAC0, inner) + bytes(pad)


def ethernet(dst: bytes, src: bytes, inner: bytes) -> bytes:
    proto = 0x0800 if inner[0] >> 4 == 4 else 0x86DD
    return bytes(Ether(dst=dst.hex(":"), src=src.hex(":"), type=proto) / Raw(inner))


def dump(entry: ctypes.Structure) -> bytes:
    """A map entry's bytes, to see that nothing changed."""
    return bytes(entry)
