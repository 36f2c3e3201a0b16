# SPDX-License-Identifier: Apache-2.0
"""Driver name and offload switches of a device in the current network namespace, by SIOCETHTOOL (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GDRVINFO = 0x03
# name → (get, set)
OFFLOADS = {
    "tx-checksum": (0x16, 0x17),
    "sg": (0x18, 0x19),
    "tso": (0x1E, 0x1F),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}


def _ioctl(nic: str, data: bytes) -> bytes:
    buffer = array.array("B", data)
    request = struct.pack("16sP", nic.encode(), buffer.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    return buffer.tobytes()


def driver(nic: str) -> str:
    """Kernel driver's name; OSError when there is no such device."""
    info = _ioctl(nic, struct.pack("<I", _GDRVINFO) + bytes(192))
    return info[4:36].split(b"\0")[0].decode()


def offloads(nic: str) -> dict[str, bool]:
    """State of every switch in OFFLOADS that the device knows."""
    found = {}
    for name, (get, _) in OFFLOADS.items():
        try:
            found[name] = bool(struct.unpack("<II", _ioctl(nic, struct.pack("<II", get, 0)))[1])
        except OSError:
            continue
    return found


def set_offload(nic: str, name: str, on: bool) -> None:
    if offloads(nic).get(name) == on:
        return  # a driver may refuse even this while another switch forces it
    _ioctl(nic, struct.pack("<II", OFFLOADS[name][1], on))


def changed(before: dict[str, bool], after: dict[str, bool]) -> tuple[str, ...]:
    """What differs, as `tso off`."""
    return tuple(f"{name} {'on' if on else 'off'}" for name, on in after.items() if before.get(name) != on)
