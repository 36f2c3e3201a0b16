# SPDX-License-Identifier: Apache-2.0
"""Compiled programs kept from one `up` to the next: clang takes a second or two for each, the kernel milliseconds.

    /var/cache/veilnet/bpf/<digest>      one JSON object: type, licence, maps, instructions

The digest covers every source of `bpf/`, the program's name, the kernel headers and bcc. Maps stand by name with their
layout; they are put in as they are pinned when the program is loaded, and nothing is taken if one differs. Only root's
own files count.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from veilnet.files import private_directory, write_private
from veilnet.loader import libbpf
from veilnet.loader.libbpf import BpfError

CACHE: Final = Path("/var/cache/veilnet/bpf")
_INSTRUCTION: Final = struct.Struct("<BBhi")  # code, registers, offset, immediate: struct bpf_insn
_LOAD_IMM64, _PSEUDO_MAP_FD = 0x18, 1  # BPF_LD | BPF_DW | BPF_IMM; linux/bpf.h


@dataclass(frozen=True)
class Machine:
    """What a program depends on besides its sources and bcc: `uname -r` and BCC_KERNEL_SOURCE."""

    release: str
    headers: str | None


def this_machine() -> Machine:
    return Machine(platform.release(), os.environ.get("BCC_KERNEL_SOURCE"))


def digest(folder: Path, name: str, prog_type: str, machine: Machine | None = None) -> str:
    """What a compiled program depends on, on this machine or on another with the same bcc."""
    machine = machine or this_machine()
    found = hashlib.sha256(f"{name} {prog_type} {machine.release} {machine.headers}".encode())
    spec = importlib.util.find_spec("bcc")
    if spec and spec.origin:
        found.update(f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}".encode())
    for path in sorted([*folder.glob("*.h"), *folder.glob("*.c")]):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:32]


def keep(key: str, program: tuple[str, str, str], code: bytes, maps: Mapping[int, str]) -> None:
    """Keep a program (name, type, licence). Its instructions hold fds of maps, which `maps` names. What can't be kept
    is left."""
    name, prog_type, licence = program
    with contextlib.suppress(OSError, KeyError):
        used, text = _without_maps(code, maps)
        infos = {each: asdict(libbpf.map_info(fd)) for fd, each in maps.items() if each in used}
        body = {"name": name, "type": prog_type, "licence": licence, "maps": [[each, infos[each]] for each in used]}
        private_directory(CACHE)
        write_private(CACHE / key, json.dumps({**body, "code": base64.b64encode(text).decode()}).encode())


def load(key: str, pin_dir: Path) -> int | None:
    """fd of a kept program over the maps pinned in `pin_dir`; None when there is none that fits."""
    kept = _read(CACHE / key)
    if kept is None:
        return None
    fds: list[int] = []
    try:
        for name, info in kept["maps"]:
            fds.append(libbpf.obj_get(pin_dir / name))
            if asdict(libbpf.map_info(fds[-1])) != info:
                return None
        code = _with_maps(base64.b64decode(kept["code"]), fds)
        return libbpf.prog_load(kept["name"], kept["type"], kept["licence"], code)
    except BpfError:
        return None  # compiled anew, which says why if it is no better
    finally:
        for fd in fds:
            os.close(fd)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != 0 or status.st_mode & 0o022:
                return None
            found: dict[str, Any] = json.loads(file.read())
            return found if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None


def _references(code: bytes) -> list[int]:
    """Offsets of the instructions that load a map."""
    found, at = [], 0
    while at < len(code):
        operation, registers, _, _ = _INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            found.append(at)
        at += 16 if operation == _LOAD_IMM64 else 8
    return found


def _without_maps(code: bytes, maps: Mapping[int, str]) -> tuple[list[str], bytes]:
    """(names of the maps, instructions with a map's place among them in place of its fd). KeyError: an unknown fd."""
    text, used = bytearray(code), list[str]()
    for at in _references(code):
        (fd,) = struct.unpack_from("<i", code, at + 4)
        if maps[fd] not in used:
            used.append(maps[fd])
        struct.pack_into("<i", text, at + 4, used.index(maps[fd]))
    return used, bytes(text)


def _with_maps(code: bytes, fds: list[int]) -> bytes:
    text = bytearray(code)
    for at in _references(code):
        (index,) = struct.unpack_from("<i", code, at + 4)
        struct.pack_into("<i", text, at + 4, fds[index])
    return bytes(text)
