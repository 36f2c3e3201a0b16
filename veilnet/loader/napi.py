# SPDX-License-Identifier: Apache-2.0
"""Threaded NAPI of a device, through sysfs of the network namespace we are in.

/sys shows the namespace it was mounted in, which need not be ours. A child mounts the right one, out of sight of
everybody else, for as long as it takes to open the file; the open file stays valid.
"""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

_MOUNT = ["unshare", "--mount", "sh", "-c", "mount -t sysfs sysfs /sys && echo ready && read -r _"]


class ThreadedSwitch:
    """Thread of one device. One without NAPI, or a kernel without such threads, ignores `set`."""

    def __init__(self, device: str, fd: int | None) -> None:
        self.device = device
        self._fd = fd
        self.initial = self.get()

    def get(self) -> bool:
        return self._fd is not None and os.pread(self._fd, 8, 0).strip() == b"1"

    def set(self, on: bool) -> None:
        if self._fd is not None:
            with suppress(OSError):  # not this driver
                os.pwrite(self._fd, b"1" if on else b"0", 0)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_switches(devices: list[str]) -> list[ThreadedSwitch]:
    """One switch per device of this network namespace."""
    if all(_shows(device) for device in devices):
        return [_switch(Path("/sys"), device) for device in devices]
    with subprocess.Popen(_MOUNT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            return [ThreadedSwitch(device, None) for device in devices]
        switches = [_switch(Path(f"/proc/{child.pid}/root/sys"), device) for device in devices]
        child.communicate(b"\n")
    return switches


def _shows(device: str) -> bool:
    """/sys is that of our namespace, as far as this device tells: same index, same address."""
    try:
        index = int((Path("/sys/class/net") / device / "ifindex").read_text(encoding="ascii"))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
            probe.bind((device, 0))
            own = probe.getsockname()[4].hex(":")
        return (
            index == socket.if_nametoindex(device)
            and (Path("/sys/class/net") / device / "address").read_text(encoding="ascii").strip() == own
        )
    except OSError:
        return False


def _switch(sys: Path, device: str) -> ThreadedSwitch:
    try:
        return ThreadedSwitch(device, os.open(sys / "class/net" / device / "threaded", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return ThreadedSwitch(device, None)
