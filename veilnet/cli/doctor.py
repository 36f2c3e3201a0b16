# SPDX-License-Identifier: Apache-2.0
"""`veilnet doctor`: can this host run a node, and if not, what is to be done. Changes nothing."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import importlib.util
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer

from veilnet.cli.admin import AsJson
from veilnet.cli.node import STATE_ROOT, Instance
from veilnet.cli.output import CliError, Exit, print_json, print_plain
from veilnet.keyd.node_files import NodeError, NodeFiles, read_info
from veilnet.tls_pin import pinned_context, system_context

KERNEL_MIN: Final = (6, 1)
BPF_FS_MAGIC: Final = 0xCAFE4A11  # linux/magic.h
CLOCK_MAX: Final = 90
"""Seconds: KN4 lets two nodes' clocks differ by as much."""
_DISK_SPARE: Final = 1 << 20
"""Bytes that must find room: some fifty records."""
_UNKNOWN_COMMAND: Final = 0xFFFF


@dataclass(frozen=True)
class Check:
    name: str
    state: str
    """ok, failed, or skipped."""
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def failed(name: str, found: str, remedy: str) -> Check:
    return Check(name, "failed", found, remedy)


def check_root() -> Check:
    if os.geteuid() == 0:
        return ok("root", "running as root")
    return failed("root", f"running as user {os.geteuid()}", "run as root: BPF and network devices need it")


def check_kernel(release: str | None = None) -> Check:
    release = release or platform.release()
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version >= KERNEL_MIN:
        return ok("kernel", release)
    wanted = ".".join(str(part) for part in KERNEL_MIN)
    return failed("kernel", release, f"install a kernel of version {wanted} or newer")


def check_bpf_syscall() -> Check:
    """A command that no kernel knows is refused as invalid where BPF exists, as not permitted or unknown elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    if number is None:
        return Check("bpf syscall", "skipped", f"unknown machine {platform.machine()}")
    libc.syscall(number, _UNKNOWN_COMMAND, None, 0)
    error = ctypes.get_errno()
    if error in {errno.EINVAL, errno.E2BIG, errno.EFAULT}:
        return ok("bpf syscall", "available")
    return failed(
        "bpf syscall", os.strerror(error), "run as root, outside of a container without CAP_BPF and CAP_NET_ADMIN"
    )


def check_bpffs(path: Path = Path("/sys/fs/bpf")) -> Check:
    mounts = Path("/proc/mounts").read_text().splitlines()
    if any(line.split()[1:3] == [str(path), "bpf"] for line in mounts):
        return ok("bpffs", f"mounted on {path}")
    return failed("bpffs", f"no BPF file system on {path}", f"mount -t bpf bpf {path}")


def check_headers() -> Check:
    from veilnet.loader.headers import HeadersMissingError, find_headers  # noqa: PLC0415

    try:
        return ok("kernel headers", str(find_headers()))
    except HeadersMissingError as error:
        return failed("kernel headers", "no tree to compile BPF programs with", str(error))
    except OSError as error:
        return failed("kernel headers", str(error), "run as root once, or name a header tree in BCC_KERNEL_SOURCE")


def check_bcc() -> Check:
    remedy = "apt-get install python3-bpfcc, and use a venv made from /usr/bin/python3 with --system-site-packages"
    if importlib.util.find_spec("bcc") is None:
        return failed("bcc", f"no module bcc for {sys.executable}", remedy)
    if ctypes.util.find_library("bcc") is None:
        return failed("bcc", "libbcc is missing", "apt-get install libbpfcc")
    return ok("bcc", "python module and library found")


def check_libbpf() -> Check:
    name = ctypes.util.find_library("bpf")
    if name is None:
        return failed("libbpf", "not found", "apt-get install libbpf1")
    return ok("libbpf", name)


def check_nic(nic: str) -> list[Check]:
    """Driver, XDP mode in use, and offloads that disturb."""
    from veilnet.loader import ethtool, libbpf  # noqa: PLC0415

    try:
        index = socket.if_nametoindex(nic)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex() if name != "lo")
        return [failed(f"nic {nic}", "no such device", f"name one of: {names or 'there is none'}")]
    try:
        state = libbpf.xdp_query(index)
        mode = "generic XDP attached" if state.generic else "native XDP attached" if state.any else "no XDP attached"
        on = sorted(name for name, value in ethtool.offloads(nic).items() if value)
        return [
            ok(f"nic {nic} driver", f"{ethtool.driver(nic)}, {mode}"),
            ok(f"nic {nic} offloads", f"on: {', '.join(on) or 'none'}"),
        ]
    except OSError as error:
        return [failed(f"nic {nic}", str(error), "run as root; is it an Ethernet device?")]


def check_disk(files: NodeFiles) -> Check:
    """A node goes on with a full disk, but what it hears then is lost with a restart of the host."""
    name, place = "disk", files.state_dir
    if not place.exists():
        return Check(name, "skipped", f"there is no {place}")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_DISK_SPARE))
            file.flush()
    except OSError as error:
        return failed(name, f"{place}: {error.strerror}", "make room on its file system, or mount it read-write")
    return ok(name, f"{shutil.disk_usage(place).free // 2**20} MB free for {place}")


def check_master(files: NodeFiles) -> list[Check]:
    """Reachability over the pinned TLS, and how far the clocks are apart."""
    if not files.enrolled:
        return [Check("master", "skipped", f"no node is enrolled in {files.state_dir}")]
    try:
        info, pem = read_info(files), files.master_pem()
        with httpx.Client(verify=pinned_context(pem) if pem else system_context(), trust_env=False) as client:
            before = time.time()
            response = client.get(f"{info.url}/livez", timeout=10.0)
            after = time.time()
        master_time = int(response.json()["time"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        remedy = "is `veilnet master serve` running, and does a firewall let us there?"
        return [failed("master", f"no answer: {error or type(error).__name__}", remedy)]
    except NodeError as error:
        return [failed("master", str(error), "run as root, or enrol again")]
    off = max(before - master_time - 1, master_time - after, 0)
    clock = ok("clock", f"within {max(off, 1):.0f} s of the Master's")
    if off > CLOCK_MAX:
        clock = failed("clock", f"{off:.0f} s off the Master's", "synchronise it: timedatectl set-ntp true")
    return [ok("master", f"{info.url} answers in {(after - before) * 1000:.0f} ms"), clock]


def run_checks(nics: list[str], files: NodeFiles) -> list[Check]:
    single: list[Callable[[], Check]] = [
        check_root,
        check_kernel,
        check_bpf_syscall,
        check_bpffs,
        check_headers,
        check_bcc,
        check_libbpf,
    ]
    checks = [check() for check in single]
    for nic in nics:
        checks += check_nic(nic)
    return [*checks, check_disk(files), *check_master(files)]


def doctor(
    nic: Annotated[list[str] | None, typer.Option("--nic", help="Underlay device to look at.")] = None,
    instance: Instance = "default",
    state_dir: Annotated[Path | None, typer.Option("--state-dir")] = None,
    as_json: AsJson = False,
) -> None:
    """Check kernel, BPF, headers, libraries, NIC, Master and clock; say what to do about each failure."""
    checks = run_checks(nic or [], NodeFiles(state_dir or STATE_ROOT / instance))
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            print_plain(f"{check.state:8}{check.name}: {check.found}")
            if check.remedy:
                print_plain(f"        to do: {check.remedy}")
    bad = sum(check.state == "failed" for check in checks)
    if bad:
        raise CliError(f"{bad} of {len(checks)} checks failed", "each says above what to do", Exit.FAILED)
