# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PT028 (test_run is no test)
"""The part of libbpf.so.1 that VeilNet needs, by ctypes: maps, pins, test runs, ring buffer, XDP and TC attachment.

Maps speak bytes here; `veilnet.loader.maps` gives them types. Every failure is a `BpfError`, an OSError that says which
call failed on what.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

U32 = ctypes.c_uint32
U64 = ctypes.c_uint64
_PTR = ctypes.c_void_p
_SIZE = ctypes.c_size_t

# enum bpf_map_type, linux/bpf.h
MAP_TYPES = {"hash": 1, "array": 2, "prog_array": 3, "percpu_array": 6, "lru_hash": 9, "lpm_trie": 11, "ringbuf": 27}
PROG_TYPES = {"sched_cls": 3, "xdp": 6}  # enum bpf_prog_type
F_NO_PREALLOC = 1 << 0
F_MMAPABLE = 1 << 10
F_TEST_XDP_LIVE_FRAMES = 1 << 1
ANY, NOEXIST, EXIST = 0, 1, 2

XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = range(5)
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
XDP_FLAGS_REPLACE = 1 << 4

TC_INGRESS = 1
TC_F_REPLACE = 1 << 0


class BpfError(OSError):
    """A bpf or netlink call that the kernel refused; `errno` is the kernel's, the message says what was tried."""


@cache
def _lib() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError(errno.ENOENT, "libbpf.so.1 is not installed (Debian: apt-get install libbpf1)") from error
    lib.ring_buffer__new.restype = _PTR
    for name in ("ring_buffer__free", "ring_buffer__poll", "ring_buffer__consume", "ring_buffer__epoll_fd"):
        getattr(lib, name).argtypes = [_PTR, ctypes.c_int] if name.endswith("poll") else [_PTR]
    lib.ring_buffer__free.restype = None
    lib.bpf_map_update_elem.argtypes = [ctypes.c_int, _PTR, _PTR, U64]
    lib.libbpf_set_print(None)  # it would write to stderr; our errors carry the same news
    return lib


def _check(result: int, what: str) -> int:
    """libbpf 1.x returns -errno; pass anything else on."""
    if result < 0:
        raise BpfError(-result, f"{what}: {os.strerror(-result)}")
    return result


# ---- maps ---------------------------------------------------------------------------------------------------------


class _MapCreateOpts(ctypes.Structure):
    _fields_ = [
        ("sz", _SIZE),
        *((name, U32) for name in ("btf_fd", "btf_key_type_id", "btf_value_type_id", "btf_vmlinux_value_type_id")),
        *((name, U32) for name in ("inner_map_fd", "map_flags")),
        ("map_extra", U64),
        *((name, U32) for name in ("numa_node", "map_ifindex")),
    ]


class _MapInfo(ctypes.Structure):
    _fields_ = [
        *((name, U32) for name in ("type", "id", "key_size", "value_size", "max_entries", "map_flags")),
        ("name", ctypes.c_char * 16),
    ]


class _ProgInfo(ctypes.Structure):
    _fields_ = [("type", U32), ("id", U32), ("tag", ctypes.c_uint8 * 8)]


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says about a map; `type` is a key of MAP_TYPES, sizes in bytes."""

    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def map_create(name: str, map_type: str, key_size: int, value_size: int, max_entries: int, *, flags: int = 0) -> int:
    """Create a map of a type named in MAP_TYPES and return its fd, which the caller closes."""
    opts = _MapCreateOpts(sz=ctypes.sizeof(_MapCreateOpts), map_flags=flags)
    number = MAP_TYPES[map_type]
    short = name.encode()[:15]
    result = _lib().bpf_map_create(number, short, key_size, value_size, max_entries, ctypes.byref(opts))
    return _check(result, f"create {map_type} map {name}")


def _info(fd: int, info: ctypes.Structure, what: str) -> None:
    size = U32(ctypes.sizeof(info))
    _check(_lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), what)


def map_info(fd: int) -> MapInfo:
    info = _MapInfo()
    _info(fd, info, "map info")
    kind = next((name for name, number in MAP_TYPES.items() if number == info.type), str(info.type))
    return MapInfo(kind, info.key_size, info.value_size, info.max_entries, info.map_flags)


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes:
    """Value of `key`; BpfError ENOENT if there is none. A per-CPU map gives num_possible_cpus() values."""
    value = ctypes.create_string_buffer(value_size)
    _check(_lib().bpf_map_lookup_elem(fd, key, value), "map lookup")
    return value.raw


def map_update(fd: int, key: bytes, value: bytes, flags: int = ANY) -> None:
    _check(_lib().bpf_map_update_elem(fd, key, value, flags), "map update")


def map_delete(fd: int, key: bytes) -> None:
    """Remove `key`; BpfError ENOENT if it is not there."""
    _check(_lib().bpf_map_delete_elem(fd, key), "map delete")


def map_keys(fd: int, key_size: int) -> Iterator[bytes]:
    """Every key. Deleting the key just given is safe; keys added meanwhile may be missed."""
    found = ctypes.create_string_buffer(key_size)
    result = _lib().bpf_map_get_next_key(fd, None, found)
    while result != -errno.ENOENT:
        _check(result, "map get next key")
        key = found.raw
        result = _lib().bpf_map_get_next_key(fd, key, found)  # before the caller may delete `key`
        yield key


def num_possible_cpus() -> int:
    """CPUs that a per-CPU map holds values for."""
    return _check(_lib().libbpf_num_possible_cpus(), "number of possible CPUs")


# ---- pins and programs ----------------------------------------------------------------------------------------------


def obj_pin(fd: int, path: Path) -> None:
    _check(_lib().bpf_obj_pin(fd, os.fsencode(path)), f"pin {path}")


def obj_get(path: Path) -> int:
    """fd of a pinned map or program; the caller closes it."""
    return _check(_lib().bpf_obj_get(os.fsencode(path)), f"open pin {path}")


def prog_load(name: str, prog_type: str, licence: str, code: bytes) -> int:
    """Load instructions (struct bpf_insn) as a program of a type in PROG_TYPES; its fd, which the caller closes."""
    lib = _lib()
    lib.bpf_prog_load.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, _SIZE, _PTR]
    number, short = PROG_TYPES[prog_type], name.encode()[:15]
    return _check(lib.bpf_prog_load(number, short, licence.encode(), code, len(code) // 8, None), f"load {name}")


def prog_id(fd: int) -> int:
    """The kernel's number of a loaded program."""
    info = _ProgInfo()
    _info(fd, info, "program info")
    return int(info.id)


class _TestRunOpts(ctypes.Structure):
    _fields_ = [
        ("sz", _SIZE),
        *((name, _PTR) for name in ("data_in", "data_out")),
        *((name, U32) for name in ("data_size_in", "data_size_out")),
        *((name, _PTR) for name in ("ctx_in", "ctx_out")),
        *((name, U32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", ctypes.c_int),
        *((name, U32) for name in ("duration", "flags", "cpu", "batch_size")),
    ]


@dataclass(frozen=True, slots=True)
class TestRun:
    """Outcome of running a program on one packet; `duration_ns` is the mean over the repetitions."""

    __test__ = False

    verdict: int
    data: bytes
    duration_ns: int

    @property
    def retval(self) -> int:
        return self.verdict


def xdp_ctx(size: int, *, ingress_ifindex: int, rx_queue: int = 0) -> bytes:
    """`struct xdp_md` for a test run of a `size` byte packet that came in on `ingress_ifindex`."""
    fields = (0, size, 0, ingress_ifindex, rx_queue, 0)
    return b"".join(value.to_bytes(4, "little") for value in fields)


def test_run(
    fd: int,
    data: bytes,
    *,
    repeat: int = 1,
    ctx_in: bytes = b"",
    live_frames: bool = False,
    batch: int = 0,
) -> TestRun:
    """BPF_PROG_TEST_RUN. With `live_frames` the verdicts are carried out and `data` of the result is empty."""
    source = ctypes.create_string_buffer(data, len(data))
    ctx = ctypes.create_string_buffer(ctx_in, len(ctx_in))
    out = ctypes.create_string_buffer(len(data) + 512)
    opts = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts), data_size_in=len(data), repeat=repeat, batch_size=batch)
    opts.data_in = ctypes.addressof(source)
    if ctx_in:
        opts.ctx_in, opts.ctx_size_in = ctypes.addressof(ctx), len(ctx_in)
    if live_frames:
        opts.flags = F_TEST_XDP_LIVE_FRAMES
    else:
        opts.data_out, opts.data_size_out = ctypes.addressof(out), len(out)
    _check(_lib().bpf_prog_test_run_opts(fd, ctypes.byref(opts)), "program test run")
    return TestRun(opts.retval, out.raw[: opts.data_size_out] if not live_frames else b"", opts.duration)


# ---- ring buffer ----------------------------------------------------------------------------------------------------

_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, _PTR, _PTR, _SIZE)


class RingBuffer:
    """Consumer of a ring buffer map. The map must have no other consumer."""

    def __init__(self, map_fd: int) -> None:
        self._records: list[bytes] = []
        self._callback = _SAMPLE(self._take)  # referenced for as long as libbpf may call it
        self._ring: int | None = _lib().ring_buffer__new(map_fd, self._callback, None, None)
        if not self._ring:
            number = ctypes.get_errno()
            raise BpfError(number, f"open ring buffer: {os.strerror(number)}")

    def _take(self, _ctx: int | None, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def fileno(self) -> int:
        """An epoll fd that is readable while records wait."""
        return int(_lib().ring_buffer__epoll_fd(self._ring))

    def consume(self) -> list[bytes]:
        """Every record that waits, oldest first; does not block."""
        _check(_lib().ring_buffer__consume(self._ring), "consume ring buffer")
        return self._drain()

    def poll(self, timeout_ms: int) -> list[bytes]:
        """Wait up to `timeout_ms` (-1: for ever) for records."""
        _check(_lib().ring_buffer__poll(self._ring, timeout_ms), "poll ring buffer")
        return self._drain()

    def _drain(self) -> list[bytes]:
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        if self._ring:
            _lib().ring_buffer__free(self._ring)
            self._ring = None


# ---- attachment -----------------------------------------------------------------------------------------------------


class _XdpAttachOpts(ctypes.Structure):
    _fields_ = [("sz", _SIZE), ("old_prog_fd", ctypes.c_int)]


class _XdpQueryOpts(ctypes.Structure):
    _fields_ = [
        ("sz", _SIZE),
        *((name, U32) for name in ("prog_id", "drv_prog_id", "hw_prog_id", "skb_prog_id")),
        ("attach_mode", ctypes.c_uint8),
    ]


class _TcHook(ctypes.Structure):
    _fields_ = [("sz", _SIZE), ("ifindex", ctypes.c_int), ("attach_point", ctypes.c_int), ("parent", U32)]


class _TcOpts(ctypes.Structure):
    _fields_ = [
        ("sz", _SIZE),
        ("prog_fd", ctypes.c_int),
        *((name, U32) for name in ("flags", "prog_id", "handle", "priority")),
    ]


@dataclass(frozen=True, slots=True)
class XdpState:
    """Program ids on a device by mode; 0 for none."""

    native: int
    generic: int
    offloaded: int

    @property
    def any(self) -> int:
        return self.native or self.generic or self.offloaded


def xdp_query(ifindex: int) -> XdpState:
    opts = _XdpQueryOpts(sz=ctypes.sizeof(_XdpQueryOpts))
    _check(_lib().bpf_xdp_query(ifindex, 0, ctypes.byref(opts)), f"query XDP of device {ifindex}")
    # with a single program the kernel fills prog_id and mode alone
    modes = {1: opts.drv_prog_id, 2: opts.skb_prog_id, 3: opts.hw_prog_id}
    if opts.attach_mode in modes:
        modes[opts.attach_mode] = modes[opts.attach_mode] or opts.prog_id
    return XdpState(modes[1], modes[2], modes[3])


def xdp_attach(ifindex: int, prog_fd: int, flags: int, old_prog_fd: int | None = None) -> None:
    """Set (prog_fd >= 0) or remove (-1) a device's program; with `old_prog_fd` only if that one is there."""
    opts = _XdpAttachOpts(sz=ctypes.sizeof(_XdpAttachOpts), old_prog_fd=old_prog_fd or 0)
    if old_prog_fd is not None:
        flags |= XDP_FLAGS_REPLACE
    _check(_lib().bpf_xdp_attach(ifindex, prog_fd, flags, ctypes.byref(opts)), f"attach XDP to device {ifindex}")


def tc_hook_create(ifindex: int) -> None:
    """Add a clsact qdisc; one that exists is kept."""
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=TC_INGRESS)
    result = _lib().bpf_tc_hook_create(ctypes.byref(hook))
    if result != -errno.EEXIST:
        _check(result, f"add clsact to device {ifindex}")


def tc_attach(ifindex: int, prog_fd: int, *, handle: int = 1, priority: int = 1) -> None:
    """Attach as direct-action classifier to ingress, replacing what has the same handle and priority."""
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=TC_INGRESS)
    opts = _TcOpts(sz=ctypes.sizeof(_TcOpts), prog_fd=prog_fd, flags=TC_F_REPLACE, handle=handle, priority=priority)
    _check(_lib().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(opts)), f"attach TC to device {ifindex}")


def tc_query(ifindex: int, *, handle: int = 1, priority: int = 1) -> int:
    """Id of the classifier on ingress under that handle and priority, 0 for none."""
    hook = _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=TC_INGRESS)
    opts = _TcOpts(sz=ctypes.sizeof(_TcOpts), handle=handle, priority=priority)
    result = _lib().bpf_tc_query(ctypes.byref(hook), ctypes.byref(opts))
    if result in (-errno.ENOENT, -errno.EINVAL):  # EINVAL: no clsact
        return 0
    _check(result, f"query TC of device {ifindex}")
    return int(opts.prog_id)


def prog_fd(number: int) -> int:
    """fd of the loaded program with that id; the caller closes it."""
    return _check(_lib().bpf_prog_get_fd_by_id(number), f"open program {number}")
