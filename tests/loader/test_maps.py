# SPDX-License-Identifier: Apache-2.0
"""Typed views and BpfPlane over real maps; the bucket hash against the C that the receive path runs."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from veilnet import contract as c
from veilnet.keyd.bpf_plane import BpfPlane
from veilnet.keyd.dataplane import Addrs, Circuit, DataPlane, KnockKey, SealRefusedError, SipKey
from veilnet.loader import libbpf, pins, program
from veilnet.loader.maps import bucket_index

pytestmark = pytest.mark.root

KEY = SipKey(bytes(range(16)), bytes(range(16, 32)))
OTHER = SipKey(b"m" * 16, b"e" * 16)
ADDRS = Addrs(IPv4Address("192.0.2.1"), 40000, IPv4Address("192.0.2.2"), 50000)


@pytest.fixture
def plane(pin_dir: Path) -> Iterator[BpfPlane]:
    pins.create_maps(pin_dir)
    plane = BpfPlane(pin_dir)
    yield plane
    plane.close()


def _way(number: int) -> c.LinkWay:
    return c.LinkWay(remote=number, local=0xC0000202, rport=number & 0xFFFF, lport=50000)


def test_is_a_data_plane(plane: BpfPlane) -> None:
    checked: DataPlane = plane
    assert checked.used_links() == checked.used_labels() == checked.used_streams() == []


def test_bucket_hash_equals_the_c_one(pin_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "hash.c"
    source.write_text(
        '#include <uapi/linux/bpf.h>\n#include "contract.h"\n#include "parse.h"\n'
        "int hash(struct xdp_md *ctx) {\n"
        "  struct veil_link_way way; __u64 seed; void *d = (void *)(long)ctx->data;\n"
        "  if (d + 24 > (void *)(long)ctx->data_end) return 0xffffffff;\n"
        "  __builtin_memcpy(&way, d, 16); __builtin_memcpy(&seed, d + 16, 8);\n"
        "  return veil_bucket_index(&way, seed);\n}\n"
    )
    rng = random.Random(7)
    seen = set()
    with program.load(str(source), pin_dir) as loaded:
        for _ in range(200):
            raw, seed = rng.randbytes(12) + bytes(4), rng.getrandbits(64)
            run = libbpf.test_run(loaded.fd, raw + struct.pack("<Q", seed))
            assert run.verdict == bucket_index(c.LinkWay.from_buffer_copy(raw), seed)
            seen.add(run.verdict)
    assert len(seen) > 150  # 200 draws of 4096


def test_full_bucket_goes_wide_and_comes_back(plane: BpfPlane) -> None:
    index = plane.maps.index()
    same: dict[int, list[c.LinkWay]] = {}
    number = 1
    while max((len(v) for v in same.values()), default=0) < c.BUCKET_WAYS + 2:
        same.setdefault(bucket_index(_way(number), 0), []).append(_way(number))
        number += 1
    ways = max(same.values(), key=len)
    wide = plane.maps.fd("links_wide")
    for link, way in enumerate(ways, 1):
        index.insert(way, link)
    assert [index.find(w) for w in ways] == list(range(1, len(ways) + 1))
    assert len(list(libbpf.map_keys(wide, 16))) == 2
    index.remove(ways[0])
    assert index.find(ways[0]) == 0
    assert [index.find(w) for w in ways[1:]] == list(range(2, len(ways) + 1))
    assert len(list(libbpf.map_keys(wide, 16))) == 1  # one moved into the gap, or BPF would not look there
    for way in ways:
        index.remove(way)
        index.remove(way)
    assert [index.find(w) for w in ways] == [0] * len(ways)
    assert list(libbpf.map_keys(wide, 16)) == []


def test_link_life(plane: BpfPlane) -> None:
    plane.put_link(3, ADDRS, state=c.LINK_PENDING, ifindex=2, mtu=1500, full=b"f" * 16)
    plane.set_link_rx(3, 0, KEY)
    plane.set_link_tx(3, 1, OTHER)
    plane.select_link_tx(3, 1)
    plane.put_link(3, ADDRS, state=c.LINK_UP, ifindex=2, mtu=1400)
    entry = plane.maps.links[3]
    assert bytes(entry.rx[0].key) == KEY.mac + KEY.enc and entry.rx[0].valid == 1
    assert (entry.mtu, entry.ifindex, bytes(entry.full)) == (1400, 2, bytes(16))
    assert plane.link_addrs(3) == ADDRS and plane.used_links() == [3]
    assert plane.link_stats(3).tx_slot == 1
    way = c.LinkWay(remote=0xC0000201, local=0xC0000202, rport=40000, lport=50000)
    assert plane.maps.index().find(way) == 3
    plane.remove_link(3)
    plane.remove_link(3)
    assert bytes(plane.maps.links[3]) == bytes(1472) and plane.used_links() == []
    assert plane.maps.index().find(way) == 0 and plane.link_addrs(3) is None


def test_moved_link_forgets_its_old_address(plane: BpfPlane) -> None:
    plane.put_link(3, ADDRS, state=c.LINK_UP, ifindex=2, mtu=1500)
    plane.maps.links[3].l2.stamp = 99
    moved = Addrs(ADDRS.remote, 40001, ADDRS.local, ADDRS.lport)
    plane.put_link(3, moved, state=c.LINK_UP, ifindex=2, mtu=1500)
    old = c.LinkWay(remote=0xC0000201, local=0xC0000202, rport=40000, lport=50000)
    assert plane.maps.index().find(old) == 0
    old.rport = 40001
    assert plane.maps.index().find(old) == 3 and plane.maps.links[3].l2.stamp == 0


def test_counters_never_go_back(plane: BpfPlane) -> None:
    plane.put_link(3, ADDRS, state=c.LINK_UP, ifindex=2, mtu=1500)
    plane.set_link_tx(3, 1, KEY)
    plane.maps.links[3].tx[1].counter = 77
    plane.set_link_tx(3, 1, KEY)
    assert plane.link_stats(3).tx_counters == (0, 77)
    plane.select_link_tx(3, 1)
    with pytest.raises(ValueError, match="sends with slot 1"):
        plane.set_link_tx(3, 1, OTHER)
    plane.put_stream(4, peer=9, out_link=3, out_label=8, budget=5, rx_hp=b"r" * 16, tx_hp=b"t" * 16)
    plane.set_stream_tx(4, 0, b"k" * 32)
    plane.maps.streams[4].tx[0].counter = 55
    plane.set_stream_tx(4, 0, b"k" * 32)
    assert plane.stream_stats(4).tx_counters == (55, 0)
    with pytest.raises(ValueError, match="sends with slot 0"):
        plane.set_stream_tx(4, 0, b"l" * 32)


def test_stream_and_circuit(plane: BpfPlane) -> None:
    plane.put_stream(4, peer=9, out_link=3, out_label=8, budget=5, rx_hp=b"r" * 16, tx_hp=b"t" * 16)
    plane.set_stream_rx(4, 1, b"k" * 32)
    entry = plane.maps.streams[4]
    assert (entry.out_link, entry.out_label, entry.peer, entry.budget, entry.lanes) == (3, 8, 9, 5, 1)
    assert plane.stream_stats(4).rx_used == (False, False)
    entry.win[1][127] = 1
    assert plane.stream_stats(4).rx_used == (False, True)
    plane.set_stream_rx(4, 1, b"n" * 32)
    assert plane.stream_stats(4).rx_used == (False, False)
    plane.remove_stream(4)
    assert bytes(entry) == bytes(2432)
    circuit = Circuit(c.CIRCUIT_FORWARD, 1, 2, 65535)
    plane.put_circuit(70, circuit)
    plane.maps.circuits[70].frames = 5
    plane.put_circuit(70, circuit)
    assert plane.circuit(70) == circuit and plane.used_labels() == [70] and plane.maps.circuits[70].frames == 5
    plane.remove_circuit(70)
    assert plane.circuit(70) is None


def test_routes_knocks_states(plane: BpfPlane) -> None:
    nets = [ip_network(n) for n in ("10.0.0.0/8", "0.0.0.0/0", "fd00::/64", "10.1.2.3/32")]
    for stream, net in enumerate(nets):
        plane.put_route(net, peer=7, stream=stream)
    assert plane.routes() == {net: (7, i) for i, net in enumerate(nets)}
    for net in nets * 2:
        plane.remove_route(net)
    assert plane.routes() == {}
    plane.set_knock(1, KnockKey(b"m" * 16, b"e" * 16, b"f" * 16))
    assert bytes(plane.maps.config.knock[1]) == b"m" * 16 + b"e" * 16 + b"f" * 16 + b"\1" + bytes(15)
    plane.set_knock(1, None)
    assert bytes(plane.maps.config.knock[1]) == bytes(64)
    plane.save_state(1, 2, b"x" * c.STATE_LEN)
    plane.save_state(1, 2, b"short")
    plane.save_state(3, 0, b"")
    assert plane.load_states() == {(1, 2): b"short", (3, 0): b""}
    plane.drop_state(1, 2)
    plane.drop_state(1, 2)
    assert plane.load_states() == {(3, 0): b""}
    with pytest.raises(ValueError, match="1009 bytes"):
        plane.save_state(1, 2, b"x" * 1009)


@pytest.mark.parametrize("index", [0, -1, c.LINKS])
def test_indices_out_of_range(plane: BpfPlane, index: int) -> None:
    with pytest.raises(IndexError):
        plane.remove_link(index)


def test_seal_takes_the_next_counter(plane: BpfPlane, pin_dir: Path) -> None:
    with program.load("veil_ctl.c", pin_dir) as ctl:
        ctl.pin(pin_dir)
    plane.put_link(3, ADDRS, state=c.LINK_PENDING, ifindex=2, mtu=1500)
    plane.set_link_tx(3, 0, KEY)
    body = os.urandom(1216)
    with pytest.raises(SealRefusedError):
        plane.seal(3, 0, 1, body)
    plane.put_link(3, ADDRS, state=c.LINK_UP, ifindex=2, mtu=1500)
    frames = [plane.seal(3, 0, 1, body) for _ in range(2)]
    assert [f[16:] for f in frames] == [body, body] and frames[0][:16] != frames[1][:16]
    assert plane.link_stats(3).tx_counters == (2, 0)
    assert plane.reasons()["OK_CTL"] == 2 and plane.reasons()["DROP_LINK_DOWN"] == 1
