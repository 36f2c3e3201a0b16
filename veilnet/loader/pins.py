# SPDX-License-Identifier: Apache-2.0
"""Where maps and programs are pinned, and what maps there are.

    /sys/fs/bpf/veilnet/<schema hash>/<instance>/<map>, prog_<program>

A pinned map of another layout would be reused silently, hence the hash of the contract in the path and a comparison of
every existing pin with what is expected. bpffs allows no dot in a name.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from ctypes import sizeof
from pathlib import Path

from veilnet import contract as c
from veilnet.loader import libbpf
from veilnet.loader.libbpf import F_MMAPABLE, F_NO_PREALLOC, BpfError, MapInfo

BPFFS = Path("/sys/fs/bpf")
ROOT = BPFFS / "veilnet"
BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h


def _array(entry: type[ctypes.Structure], entries: int) -> MapInfo:
    return MapInfo("array", 4, sizeof(entry), entries, F_MMAPABLE)


# The twin of bpf/maps.h; a test loads a program over these pins and compares what it declares.
MAPS: dict[str, MapInfo] = {
    "config": _array(c.Config, 1),
    "link_buckets": _array(c.LinkBucket, c.LINK_BUCKETS),
    "links": _array(c.Link, c.LINKS),
    "circuits": _array(c.Circuit, c.LABELS),
    "streams": _array(c.Stream, c.STREAMS),
    "event_share": _array(c.EventShare, 1),
    "links_wide": MapInfo("hash", sizeof(c.LinkWay), 4, c.LINKS, 0),
    "routes": MapInfo("lpm_trie", sizeof(c.RouteKey), sizeof(c.Route), c.ROUTES, F_NO_PREALLOC),
    "networks": MapInfo("lpm_trie", sizeof(c.NetworkKey), sizeof(c.Route), c.NETWORKS, F_NO_PREALLOC),
    "knock_seen": MapInfo("lru_hash", 8, 8, c.KNOCK_SEEN, 0),
    "knock_sources": MapInfo("lru_hash", 16, 8, c.KNOCK_SOURCES, 0),
    "reasons": MapInfo("percpu_array", 4, 8, c.REASON_MAX, 0),
    "events": MapInfo("ringbuf", 0, 0, c.EVENT_BYTES, 0),
    "keyd_state": MapInfo("hash", sizeof(c.StateKey), sizeof(c.State), c.STATES, F_NO_PREALLOC),
}


class PinMismatchError(RuntimeError):
    """A pinned map is not of the layout that this version expects."""


def instance_dir(instance: str) -> Path:
    """Pin directory of `instance` under this contract. The name is of letters, digits, `_` and `-`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", instance):
        raise ValueError(f"instance name {instance!r}: 1 to 32 letters, digits, _ or -")
    return ROOT / c.SCHEMA_HASH / instance


def instance_dirs(instance: str) -> list[Path]:
    """The instance's pin directories under every contract that has left one."""
    instance_dir(instance)
    return sorted(ROOT.glob(f"*/{instance}"))


def ensure_bpffs(mountpoint: Path = BPFFS) -> None:
    """Mount bpffs unless it is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    statfs = ctypes.create_string_buffer(256)
    libc.statfs(os.fsencode(mountpoint), statfs)
    if int.from_bytes(statfs.raw[:8], "little") == BPF_FS_MAGIC:
        return
    if libc.mount(b"bpf", os.fsencode(mountpoint), b"bpf", 0, b"mode=0700"):
        number = ctypes.get_errno()
        raise BpfError(number, f"mount bpffs on {mountpoint}: {os.strerror(number)}")


def create_maps(pin_dir: Path, max_entries: Mapping[str, int] | None = None) -> None:
    """Create and pin every map that is not there yet; compare those that are (PinMismatchError).

    `max_entries` overrides sizes by map name, for tests.
    """
    ensure_bpffs()
    pin_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    sizes = max_entries or {}
    for name, spec in MAPS.items():
        wanted = MapInfo(spec.type, spec.key_size, spec.value_size, sizes.get(name, spec.max_entries), spec.flags)
        path = pin_dir / name
        if path.exists():
            verify_pin(path, wanted)
        else:
            _create(name, wanted, path)


def _create(name: str, spec: MapInfo, path: Path) -> None:
    fd = libbpf.map_create(name, spec.type, spec.key_size, spec.value_size, spec.max_entries, flags=spec.flags)
    try:
        libbpf.obj_pin(fd, path)
    finally:
        os.close(fd)


def verify_pin(path: Path, wanted: MapInfo) -> None:
    """Raise PinMismatchError unless the map pinned at `path` is as `wanted` says."""
    fd = libbpf.obj_get(path)
    try:
        found = libbpf.map_info(fd)
    finally:
        os.close(fd)
    if found != wanted:
        raise PinMismatchError(f"{path} is {found}, expected {wanted}; `veilnet down` removes it")


def stage_program(fd: int, pin_dir: Path, name: str) -> Path:
    """Pin a program beside its predecessor, as prog_<name>_<id>: both are known while one replaces the other."""
    path = pin_dir / f"prog_{name}_{libbpf.prog_id(fd)}"
    if not path.exists():
        libbpf.obj_pin(fd, path)
    return path


def commit_program(staged: Path, name: str) -> None:
    """Let prog_<name> be the staged program, in one step, and forget what interrupted runs have staged."""
    staged.rename(staged.with_name(f"prog_{name}"))
    for path in staged.parent.glob(f"prog_{name}_*"):
        if program_name(path) == name:
            path.unlink()


def program_name(pin: Path) -> str:
    """Name of the program that a pin of ours is of, staged or valid."""
    return re.sub(r"_\d+$", "", pin.name.removeprefix("prog_"))


def program_ids(instance: str) -> dict[int, Path]:
    """Ids of the instance's pinned programs, under any contract: what `attach` may replace."""
    ids: dict[int, Path] = {}
    for path in (pin for pin_dir in instance_dirs(instance) for pin in pin_dir.glob("prog_*")):
        fd = libbpf.obj_get(path)
        try:
            ids[libbpf.prog_id(fd)] = path
        finally:
            os.close(fd)
    return ids


def remove_dir(pin_dir: Path) -> None:
    """Unpin everything in `pin_dir` and remove it; its parents too where they are empty."""
    if pin_dir.is_dir():
        for path in pin_dir.iterdir():
            path.unlink()
        pin_dir.rmdir()
    for parent in (pin_dir.parent, pin_dir.parent.parent):
        if parent == BPFFS or not parent.is_dir() or any(parent.iterdir()):
            return
        parent.rmdir()
