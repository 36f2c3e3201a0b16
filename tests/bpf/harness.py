# SPDX-License-Identifier: Apache-2.0
"""The data plane's maps under a test's own pin directory: set up state, run one packet, compare what changed.

Maps are read and written through `veilnet.contract`'s structures alone; frames are built by `oracle`, never by the code
under test.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.bpf import oracle
from veilnet import contract as c
from veilnet.loader import libbpf

M64 = (1 << 64) - 1
BPF_NOEXIST, BPF_ANY = 1, 0
PAGE = mmap.PAGESIZE
FOREVER = 1 << 62
"""A next hop whose stamp lies in the far future is never looked up again."""
RING_BUSY, RING_DISCARD = 1 << 31, 1 << 30

XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = range(5)
TEST_IFINDEX = 1
"""test_run without a context claims the loopback device as ingress."""


def words(key: bytes) -> tuple[int, int]:
    """A 16-byte key as the two little-endian words of the contract."""
    low, high = struct.unpack("<2Q", key)
    return low, high


def bucket_of(flow: oracle.Flow, seed: int) -> int:
    """Bucket of a 5-tuple as the receiver sees it; written from the contract's words, not from the C."""
    remote, local = (int.from_bytes(IPv4Address(a).packed, "little") for a in (flow.src, flow.dst))
    rport, lport = (int.from_bytes(p.to_bytes(2, "big"), "little") for p in (flow.sport, flow.dport))
    x = (remote << 32 | local) ^ seed
    x = (x + (rport << 16 | lport) * 0x9E3779B97F4A7C15) & M64
    x ^= x >> 32
    x = x * 0xD6E8FEB86659FD93 & M64
    x ^= x >> 32
    return x & (c.LINK_BUCKETS - 1)


class ArrayView:
    """A pinned, memory-mapped array map as a ctypes array."""

    def __init__(self, pin: Path, entry: type[Any], entries: int) -> None:
        self.fd = libbpf.obj_get(pin)
        size = -(-ctypes.sizeof(entry) * entries // PAGE) * PAGE
        self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.items = (entry * entries).from_buffer(self._map)
        self._entry = entry
        self._touched: set[int] = set()

    def __getitem__(self, index: int) -> Any:
        self._touched.add(index)
        return self.items[index]

    def wipe(self) -> None:
        """Zero every entry that was handed out."""
        for index in self._touched:
            ctypes.memset(ctypes.addressof(self.items[index]), 0, ctypes.sizeof(self._entry))
        self._touched.clear()


class Ring:
    """Consumer of the pinned ring buffer (kernel layout: consumer page, producer page, data)."""

    def __init__(self, pin: Path) -> None:
        self.fd = libbpf.obj_get(pin)
        self._consumer = mmap.mmap(self.fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._rest = mmap.mmap(self.fd, PAGE + 2 * c.EVENT_BYTES, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self._filled = False

    def drain(self) -> list[c.Event]:
        """Every event since the last call, oldest first."""
        (tail,) = struct.unpack_from("<Q", self._consumer, 0)
        (head,) = struct.unpack_from("<Q", self._rest, 0)
        found = []
        if self._filled:
            tail, self._filled = head, False
        while tail < head:
            at = PAGE + tail % c.EVENT_BYTES
            (length,) = struct.unpack_from("<I", self._rest, at)
            assert not length & RING_BUSY, "a program left a record open"
            size = length & ~RING_DISCARD
            if not length & RING_DISCARD:
                found.append(c.Event.from_buffer_copy(self._rest, at + 8))
            tail += (8 + size + 7) & ~7
        struct.pack_into("<Q", self._consumer, 0, tail)
        return found

    def fill(self) -> None:
        """Make the ring look full, until the next drain: the consumer stands a whole ring behind."""
        (head,) = struct.unpack_from("<Q", self._rest, 0)
        struct.pack_into("<Q", self._consumer, 0, (head - c.EVENT_BYTES + 8) & M64)
        self._filled = True


@dataclass
class Result:
    """What one run did."""

    verdict: int
    packet: bytes
    reasons: dict[str, int]
    """Reasons counted by this run."""
    events: list[c.Event] = field(default_factory=list)


class World:
    """One set of pinned maps and the programs loaded over it."""

    def __init__(self, pins: Path) -> None:
        self.pins = pins
        self.config_map = ArrayView(pins / "config", c.Config, 1)
        self.buckets = ArrayView(pins / "link_buckets", c.LinkBucket, c.LINK_BUCKETS)
        self.links = ArrayView(pins / "links", c.Link, c.LINKS)
        self.circuits = ArrayView(pins / "circuits", c.Circuit, c.LABELS)
        self.streams = ArrayView(pins / "streams", c.Stream, c.STREAMS)
        self.share = ArrayView(pins / "event_share", c.EventShare, 1)
        self.ring = Ring(pins / "events")
        self.wide_fd, self.seen_fd, self.sources_fd, self.reasons_fd = (
            libbpf.obj_get(pins / name) for name in ("links_wide", "knock_seen", "knock_sources", "reasons")
        )
        self._wide: list[bytes] = []

    def close(self) -> None:
        for fd in (self.wide_fd, self.seen_fd, self.sources_fd, self.reasons_fd):
            os.close(fd)

    @property
    def config(self) -> Any:
        return self.config_map[0]

    def reset(self) -> None:
        """Back to empty maps."""
        for view in (self.config_map, self.buckets, self.links, self.circuits, self.streams):
            view.wipe()
        for key in self._wide:
            libbpf.map_delete(self.wide_fd, key)
        for fd, size in ((self.seen_fd, 8), (self.sources_fd, 16)):
            for key in list(libbpf.map_keys(fd, size)):
                libbpf.map_delete(fd, key)
        self._wide.clear()
        self.drain()

    # -- state ------------------------------------------------------------------------------------------------------

    def put_link(
        self,
        index: int,
        flow: oracle.Flow,
        *,
        state: int = c.LINK_UP,
        rx: Sequence[oracle.SipKey | None] = (None, None),
        tx: Sequence[oracle.SipKey | None] = (None, None),
        tx_slot: int = 0,
        mtu: int = 1500,
        egress: int = TEST_IFINDEX,
        wide: bool = False,
    ) -> Any:
        """Link `index` for frames that arrive on `flow`, with a next hop that needs no look-up."""
        link = self.links[index]
        link.mtu, link.tx_slot, link.ifindex = mtu, tx_slot, egress
        for slot in (0, 1):
            if rx_key := rx[slot]:
                link.rx[slot].key.mac[:], link.rx[slot].key.enc[:] = words(rx_key.mac), words(rx_key.enc)
                link.rx[slot].valid = 1
            if tx_key := tx[slot]:
                link.tx[slot].key.mac[:], link.tx[slot].key.enc[:] = words(tx_key.mac), words(tx_key.enc)
        link.addrs.remote[:4], link.addrs.local[:4] = IPv4Address(flow.src).packed, IPv4Address(flow.dst).packed
        link.addrs.rport, link.addrs.lport, link.addrs.family = flow.sport, flow.dport, 4
        link.l2.dmac[:], link.l2.smac[:] = oracle.mac_bytes(index, 1), oracle.mac_bytes(index, 2)
        link.l2.ifindex, link.l2.stamp = egress, FOREVER
        link.state = state
        (self.put_wide if wide else self.put_way)(flow, index)
        return link

    @staticmethod
    def _way(flow: oracle.Flow, link: int) -> c.LinkWay:
        way = c.LinkWay(rport=flow.sport, lport=flow.dport, link=link)
        way.remote, way.local = int(IPv4Address(flow.src)), int(IPv4Address(flow.dst))
        return way

    def put_way(self, flow: oracle.Flow, link: int, way: int | None = None) -> None:
        """Enter the 5-tuple in its bucket, in the first free way or in the one named."""
        bucket = self.buckets[bucket_of(flow, self.config.bucket_seed)]
        free = next(i for i in range(c.BUCKET_WAYS) if not bucket.way[i].link) if way is None else way
        bucket.way[free] = self._way(flow, link)

    def put_wide(self, flow: oracle.Flow, link: int) -> None:
        key = bytes(self._way(flow, 0))
        libbpf.map_update(self.wide_fd, key, struct.pack("<I", link), BPF_ANY)
        self._wide.append(key)

    def fill_bucket(self, flow: oracle.Flow, link: int) -> None:
        """Use up the free ways of the bucket that `flow` falls into, with other 5-tuples."""
        bucket = self.buckets[bucket_of(flow, self.config.bucket_seed)]
        for i in range(c.BUCKET_WAYS):
            if not bucket.way[i].link:
                bucket.way[i] = self._way(oracle.Flow("203.0.113.9", 1000 + i, "203.0.113.10", 2000), link)

    def put_circuit(self, label: int, **fields: int) -> Any:
        circuit = self.circuits[label]
        for name, value in fields.items():
            setattr(circuit, name, value)
        return circuit

    def put_knock(self, slot: int, key: oracle.KnockKey) -> None:
        knock = self.config.knock[slot]
        knock.mac[:], knock.enc[:], knock.full[:] = words(key.mac), words(key.enc), words(key.full)
        knock.valid = 1

    def put_seen(self, tag: bytes) -> None:
        """Remember a knock's tag."""
        libbpf.map_update(self.seen_fd, tag, struct.pack("<Q", 1), BPF_ANY)

    # -- running -----------------------------------------------------------------------------------------------------

    def reasons(self) -> dict[str, int]:
        """Every reason's count, summed over CPUs."""
        return {
            name: sum(struct.unpack(f"<{cpus}Q", libbpf.map_lookup(self.reasons_fd, struct.pack("<I", i), 8 * cpus)))
            for i, name in enumerate(c.REASONS)
            for cpus in (libbpf.num_possible_cpus(),)
        }

    def drain(self) -> list[c.Event]:
        """Empty the ring as keyd does."""
        self.share[0].taken[:] = self.share[0].raised[:]
        return self.ring.drain()

    def run(self, fd: int, packet: bytes) -> Result:
        """Run program `fd` once over `packet`."""
        before = self.reasons()
        run = libbpf.test_run(fd, packet)
        after = self.reasons()
        changed = {name: after[name] - before[name] for name in c.REASONS if after[name] != before[name]}
        return Result(run.retval, run.data, changed, self.drain())
