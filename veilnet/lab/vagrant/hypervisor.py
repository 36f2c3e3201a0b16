# SPDX-License-Identifier: Apache-2.0
"""A libvirt of the lab's own: in the lab's management namespace, with directories of the lab's own.

Its bridges, taps, nft chains and dnsmasq live and die with the namespace, its disks with one directory; the host's
libvirt, if there is one, and the host's firewall and forwarding never learn of it. No service manager is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from veilnet.lab.journal import LabError
from veilnet.lab.processes import inode, spawn

DISKS = Path("/var/lib/veilnet-lab")
"""One directory for each lab: disks and libvirt's state."""
CACHE = Path("/var/cache/veilnet/libvirt")
TOOLS = (
    "vagrant",
    "libvirtd",
    "virsh",
    "dnsmasq",
    "qemu-img",
    "qemu-system-x86_64",
    "unshare",
    "nsenter",
    "ssh",
    "tar",
)
DISK_FREE = 2 << 30
"""Bytes for the box's image and a few hundred MB for each machine."""
START_TIMEOUT = 30.0
KVM_TIMEOUT = 5.0
_EXIT = bytes.fromhex("b010e6f4f4")
"""mov al, 10h; out 0f4h, al; hlt"""
_EXIT_CODE = 0x10 << 1 | 1
"""What QEMU's isa-debug-exit makes of 10h."""

_QEMU = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""
_LIBVIRTD = 'auth_unix_rw = "none"\nunix_sock_group = "root"\nunix_sock_rw_perms = "0700"\n'
# A new mount of sysfs shows the namespace's own devices, which libvirt's bridges are set up through.
_START = """
set -e
mount -t sysfs sysfs /sys
mkdir -p /run/libvirt /var/log/libvirt
for each in etc/libvirt var/lib/libvirt run/libvirt var/log/libvirt; do mount --bind "$1/$each" "/$each"; done
mount --bind "$2" /var/cache/libvirt
exec libvirtd --pid-file "$1/libvirtd.pid"
"""


@cache
def kvm() -> bool:
    """Whether KVM runs a guest: /dev/kvm may be there, and take a machine, without ever running it.

    The guest is a boot sector that leaves by QEMU's debug exit.
    """
    if not Path("/dev/kvm").exists():
        return False
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(_EXIT.ljust(510, b"\0") + b"\x55\xaa")
        disk.flush()
        command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "16", "-display", "none", "-nodefaults"]
        command += ["-device", "isa-debug-exit,iobase=0xf4", "-drive", f"file={disk.name},format=raw,if=ide"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=KVM_TIMEOUT)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _EXIT_CODE


def require(disks: Path) -> None:
    """Raises LabError with what is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; `sudo ./run setup` installs all that machines need")
    disks.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(disks.parent).free
    if free < DISK_FREE:
        raise LabError(f"{disks.parent}: {free >> 20} MB free, machines take {DISK_FREE >> 20} MB; make room there")


def start(namespace: str, disks: Path, log: Path) -> int:
    """Start libvirtd inside a namespace and wait until it answers; its pid."""
    for name in ("etc/libvirt", "var/lib/libvirt/images", "run/libvirt", "var/log/libvirt"):
        (disks / name).mkdir(parents=True, mode=0o755)
    disks.chmod(0o700)
    CACHE.mkdir(parents=True, exist_ok=True)
    (disks / "etc/libvirt/qemu.conf").write_text(_QEMU, encoding="ascii")
    (disks / "etc/libvirt/libvirtd.conf").write_text(_LIBVIRTD, encoding="ascii")
    command = ["unshare", "--mount", "sh", "-c", _START, "libvirtd", str(disks), str(CACHE)]
    pid = spawn(namespace, command, log, {})
    end = time.monotonic() + START_TIMEOUT
    while subprocess.run([*inside(pid), "virsh", "-q", "list"], check=False, capture_output=True).returncode:
        if time.monotonic() > end or inode(namespace) is None or not _lives(pid):
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-1000:]
            raise LabError(f"libvirtd does not answer: {said or 'it said nothing'}")
        time.sleep(0.2)
    return pid


def _lives(pid: int) -> bool:
    try:
        done, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return Path(f"/proc/{pid}").exists()
    return done == 0


def inside(pid: int) -> list[str]:
    """Command prefix: where this libvirtd's socket and bridges are."""
    return ["nsenter", "-t", str(pid), "--mount", "--net", "--"]
