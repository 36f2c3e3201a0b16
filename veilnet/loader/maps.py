# SPDX-License-Identifier: Apache-2.0
"""Typed views of one instance's pinned maps: arrays as memory, tables as methods.

Array views are shared memory: an assignment to a field is seen by BPF at once. `ctypes` stores a field of up to eight
bytes in one instruction on the CPUs VeilNet runs on, so single fields never tear; what must change together is ordered
by the caller, with a `valid` or `kind` field last.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Generic, TypeVar

from veilnet import contract as c
from veilnet.loader import libbpf

Network = IPv4Network | IPv6Network
T = TypeVar("T", bound=ctypes.Structure)
_M64 = (1 << 64) - 1
_MEMBARRIER_CMD_GLOBAL = 1
_GRACE = 0.05
_MAPPED = b"\0" * 10 + b"\xff\xff"
_U32 = struct.Struct("<I")


class Array(Generic[T]):
    """A memory-mapped array map: `len(a)`, `a[i]` is a live structure."""

    def __init__(self, path: Path, entry: type[T]) -> None:
        fd = libbpf.obj_get(path)
        try:
            self._size = libbpf.map_info(fd).max_entries
            length = -(-ctypes.sizeof(entry) * self._size // mmap.PAGESIZE) * mmap.PAGESIZE
            self._memory = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)
        self._items: Any = (entry * self._size).from_buffer(self._memory)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> T:
        if not 0 <= index < self._size:
            raise IndexError(f"index {index} of {self._size}")
        item: T = self._items[index]
        return item

    def used(self, field: str) -> list[int]:
        """Indices from 1 whose `field` (a u32) is not 0."""
        entry = self._items._type_
        offset, step = getattr(entry, field).offset, ctypes.sizeof(entry)
        at = range(offset + step, self._size * step, step)
        view = memoryview(self._memory).cast("I")
        try:
            return [i for i, where in enumerate(at, 1) if view[where // 4]]
        finally:
            view.release()


def quiesce() -> None:
    """Wait until every BPF program that runs now has ended, some 10 ms: a grace period of RCU (membarrier(2))."""
    number = 324 if platform.machine() == "x86_64" else 283
    if ctypes.CDLL(None).syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(_GRACE)  # a kernel without it


def wipe(entry: ctypes.Structure | ctypes.Array[Any]) -> None:
    """Zero a live structure or array."""
    ctypes.memset(ctypes.addressof(entry), 0, ctypes.sizeof(entry))


def store(array: ctypes.Array[Any], data: bytes) -> None:
    """Overwrite a live array with `data`, which must be as long as it is."""
    if len(data) != ctypes.sizeof(array):
        raise ValueError(f"{len(data)} bytes where {ctypes.sizeof(array)} belong")
    ctypes.memmove(array, data, len(data))


def bucket_index(way: c.LinkWay, seed: int) -> int:
    """Bucket of a 5-tuple: `veil_bucket_index` of bpf/parse.h, on integers as a little-endian CPU loads the fields."""
    remote, local, rport, lport = struct.unpack_from("<IIHH", bytes(way))
    x = (remote << 32 | local) ^ seed
    x = (x + (rport << 16 | lport) * 0x9E3779B97F4A7C15) & _M64
    x ^= x >> 32
    x = x * 0xD6E8FEB86659FD93 & _M64
    x ^= x >> 32
    return int(x & (c.LINK_BUCKETS - 1))


class LinkIndex:
    """5-tuple → link: buckets of four ways, and `links_wide` for what finds its bucket full."""

    def __init__(self, buckets: Array[c.LinkBucket], wide_fd: int, seed: int) -> None:
        self._buckets, self._wide_fd, self._seed = buckets, wide_fd, seed

    def _bucket(self, key: c.LinkWay) -> c.LinkBucket:
        return self._buckets[bucket_index(key, self._seed)]

    @staticmethod
    def _same(way: c.LinkWay, key: c.LinkWay) -> bool:
        return bytes(way)[:12] == bytes(key)[:12]

    @staticmethod
    def _write(way: c.LinkWay, key: c.LinkWay, link: int) -> None:
        way.link = 0
        way.remote, way.local, way.rport, way.lport = key.remote, key.local, key.rport, key.lport
        way.link = link

    def find(self, key: c.LinkWay) -> int:
        """Link of a 5-tuple (`key.link` is 0), or 0."""
        for way in self._bucket(key).way:
            if way.link and self._same(way, key):
                return int(way.link)
        return self._wide(key)

    def _wide(self, key: c.LinkWay) -> int:
        try:
            return int(_U32.unpack(libbpf.map_lookup(self._wide_fd, bytes(key), 4))[0])
        except libbpf.BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            return 0

    def insert(self, key: c.LinkWay, link: int) -> None:
        """Point a 5-tuple at `link`; overwrites what it pointed at before."""
        ways = list(self._bucket(key).way)
        for way in ways:
            if way.link and self._same(way, key):
                way.link = link
                return
        free = next((way for way in ways if not way.link), None)
        if free is None:
            libbpf.map_update(self._wide_fd, bytes(key), _U32.pack(link))
        else:
            self._write(free, key, link)

    def remove(self, key: c.LinkWay) -> None:
        """Forget a 5-tuple. BPF asks `links_wide` only for full buckets, so one of its entries moves into the gap."""
        bucket = self._bucket(key)
        for way in bucket.way:
            if way.link and self._same(way, key):
                self._refill(way, bucket_index(key, self._seed))
                return
        if self._wide(key):
            libbpf.map_delete(self._wide_fd, bytes(key))

    def _refill(self, way: c.LinkWay, index: int) -> None:
        for raw in libbpf.map_keys(self._wide_fd, ctypes.sizeof(c.LinkWay)):
            other = c.LinkWay.from_buffer_copy(raw)
            if bucket_index(other, self._seed) == index:
                self._write(way, other, self._wide(other))
                libbpf.map_delete(self._wide_fd, raw)
                return
        way.link = 0


def route_key(network: Network) -> c.RouteKey:
    """LPM key of a prefix; IPv4 as ::ffff:a.b.c.d."""
    packed, bits = network.network_address.packed, network.prefixlen
    if network.version == 4:
        packed, bits = _MAPPED + packed, bits + 96
    key = c.RouteKey(prefixlen=bits)
    store(key.addr, packed)
    return key


def network_key(scope: int, network: Network) -> c.NetworkKey:
    """LPM key of a prefix in the table of networks; `scope` as in bpf/contract.h."""
    route = route_key(network)
    key = c.NetworkKey(prefixlen=c.NETWORK_SCOPE_BITS + route.prefixlen, scope=scope)
    store(key.addr, bytes(route.addr))
    return key


def _network(key: c.RouteKey) -> Network:
    packed = bytes(key.addr)
    if packed.startswith(_MAPPED) and key.prefixlen >= 96:
        return ip_network((IPv4Address(packed[12:]), key.prefixlen - 96))
    return ip_network((IPv6Address(packed), key.prefixlen))


class Maps:
    """Every map of the instance pinned in `pin_dir`. Close it, or use it as a context manager."""

    def __init__(self, pin_dir: Path) -> None:
        self._config = Array(pin_dir / "config", c.Config)
        self.links = Array(pin_dir / "links", c.Link)
        self.circuits = Array(pin_dir / "circuits", c.Circuit)
        self.streams = Array(pin_dir / "streams", c.Stream)
        self.event_share = Array(pin_dir / "event_share", c.EventShare)[0]
        self._buckets = Array(pin_dir / "link_buckets", c.LinkBucket)
        self.config = self._config[0]
        with ExitStack() as undo:
            self._fds: dict[str, int] = {}
            undo.callback(self.close)
            for name in ("links_wide", "routes", "networks", "knock_seen", "reasons", "events", "keyd_state"):
                self._fds[name] = libbpf.obj_get(pin_dir / name)
            undo.pop_all()

    def close(self) -> None:
        """Close descriptors; the memory goes with the last reference to a structure in it."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def __enter__(self) -> Maps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fd(self, name: str) -> int:
        """Descriptor of a map that is not an array, `events` for instance; it stays this object's."""
        return self._fds[name]

    def index(self) -> LinkIndex:
        """5-tuple look-up under the seed that stands in `config` now."""
        return LinkIndex(self._buckets, self._fds["links_wide"], self.config.bucket_seed)

    # ---- routes ----------------------------------------------------------------------------------------------

    def put_route(self, network: Network, peer: int, stream: int) -> None:
        libbpf.map_update(self._fds["routes"], bytes(route_key(network)), bytes(c.Route(peer, stream)))

    def remove_route(self, network: Network) -> None:
        self._delete("routes", bytes(route_key(network)))

    def routes(self) -> dict[Network, tuple[int, int]]:
        """network → (peer, stream)."""
        found = {}
        for raw, value in self._items("routes", c.RouteKey, c.Route):
            route = c.Route.from_buffer_copy(value)
            found[_network(c.RouteKey.from_buffer_copy(raw))] = (int(route.peer), int(route.stream))
        return found

    def put_network(self, scope: int, network: Network, peer: int, stream: int) -> None:
        libbpf.map_update(self._fds["networks"], bytes(network_key(scope, network)), bytes(c.Route(peer, stream)))

    def remove_network(self, scope: int, network: Network) -> None:
        self._delete("networks", bytes(network_key(scope, network)))

    def networks(self) -> dict[tuple[int, Network], tuple[int, int]]:
        """(scope, network) → (peer, stream)."""
        found = {}
        for raw, value in self._items("networks", c.NetworkKey, c.Route):
            key, route = c.NetworkKey.from_buffer_copy(raw), c.Route.from_buffer_copy(value)
            plain = c.RouteKey(prefixlen=key.prefixlen - c.NETWORK_SCOPE_BITS)
            store(plain.addr, bytes(key.addr))
            found[int(key.scope), _network(plain)] = (int(route.peer), int(route.stream))
        return found

    def _items(self, name: str, key: type[T], value: type[Any]) -> Iterator[tuple[bytes, bytes]]:
        for raw in libbpf.map_keys(self._fds[name], ctypes.sizeof(key)):
            yield raw, libbpf.map_lookup(self._fds[name], raw, ctypes.sizeof(value))

    def _delete(self, name: str, key: bytes) -> None:
        try:
            libbpf.map_delete(self._fds[name], key)
        except libbpf.BpfError as error:
            if error.errno != errno.ENOENT:
                raise

    # ---- counters, keyd's sessions ---------------------------------------------------------------------------

    def reasons(self) -> dict[str, int]:
        """Exits by reason name, summed over CPUs."""
        cpus = libbpf.num_possible_cpus()
        values = (libbpf.map_lookup(self._fds["reasons"], _U32.pack(i), 8 * cpus) for i in range(len(c.REASONS)))
        return {name: sum(struct.unpack(f"<{cpus}Q", value)) for name, value in zip(c.REASONS, values, strict=True)}

    def save_state(self, kind: int, index: int, data: bytes) -> None:
        if len(data) > c.STATE_LEN:
            raise ValueError(f"state of {len(data)} bytes, at most {c.STATE_LEN}")
        state = c.State(len=len(data), version=1, stamp=time.time_ns())
        store(state.data, data.ljust(c.STATE_LEN, b"\0"))
        libbpf.map_update(self._fds["keyd_state"], bytes(c.StateKey(kind, index)), bytes(state))

    def load_states(self) -> dict[tuple[int, int], bytes]:
        """(kind, index) → what save_state was given."""
        found = {}
        for raw, value in self._items("keyd_state", c.StateKey, c.State):
            key, state = c.StateKey.from_buffer_copy(raw), c.State.from_buffer_copy(value)
            found[int(key.kind), int(key.index)] = bytes(state.data)[: state.len]
        return found

    def drop_state(self, kind: int, index: int) -> None:
        self._delete("keyd_state", bytes(c.StateKey(kind, index)))
