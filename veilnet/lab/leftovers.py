# SPDX-License-Identifier: Apache-2.0
"""What labs may leave behind: nothing. `traces` looks by name, `host` at what the host shares with them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from veilnet.lab.journal import BASE
from veilnet.lab.net import NETNS_DIR

_BPFFS = Path("/sys/fs/bpf")
_RUN = Path("/run/veilnet")


def traces(prefix: str) -> list[str]:
    """Namespaces, processes, mounts, BPF pins and files of labs whose names start with `prefix`."""
    found = [f"namespace {path.name}" for path in NETNS_DIR.glob(f"veil-{prefix}*")]
    found += [f"file {path}" for folder in (BASE, _RUN) for path in folder.glob(f"{prefix}*")]
    found += [f"pin {path}" for path in _BPFFS.rglob("*") if _named(path, prefix)]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found += [f"mount {line.split()[1]}" for line in mounts if line.split()[1].startswith(f"{BASE}/{prefix}")]
    return sorted(found + [f"process {line}" for line in _processes(prefix)])


def _named(path: Path, prefix: str) -> bool:
    return path.name.startswith((prefix, f"veil-{prefix}"))


def _processes(prefix: str) -> Iterator[str]:
    """By the names of namespaces, instances and directories that stand in their arguments."""
    marks = [f"{before}{prefix}".encode() for before in ("veil-", f"{BASE}/", f"{_RUN}/", "--instance\0")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue  # it has ended
        if any(mark in line for mark in marks):
            yield f"{path.parent.name}: {line.replace(bytes(1), b' ').decode(errors='replace').strip()}"


def host() -> set[str]:
    """Devices, qdiscs, nft tables and forwarding of the host's own namespace, which no lab may touch."""
    devices = [f"device {row['ifname']}" for row in _json("ip", "-j", "link")]
    qdiscs = [f"qdisc {row['kind']} on {row['dev']}" for row in _json("tc", "-j", "qdisc")]
    tables = [f"table {line}" for line in _output("nft", "list", "tables").splitlines()]
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip()
    return {*devices, *qdiscs, *tables, f"net.ipv4.ip_forward {forwarding}"}


def _json(*command: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(_output(*command) or "[]")
    return found


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
