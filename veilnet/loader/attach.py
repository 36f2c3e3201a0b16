# SPDX-License-Identifier: Apache-2.0
"""Attach XDP programs: native by choice, replaced without a gap, and never over somebody else's program.

A program counts as ours if it is pinned under our instance's name, so a later run, or another process, knows it again.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass

from pyroute2 import IPRoute

from veilnet.loader import ethtool, libbpf
from veilnet.loader.libbpf import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, XDP_FLAGS_UPDATE_IF_NOEXIST, BpfError

XDP_MTU_MAX = 3498
"""Longest MTU that the common drivers (virtio_net, ixgbe, veth) take for XDP without multi-buffer: one 4 KiB page."""


class AttachError(RuntimeError):
    """A program that can't be attached; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class AttachFacts:
    """How a program is attached; `replaced` is the id of the program that was there before, 0 for none."""

    nic: str
    ifindex: int
    driver: str
    mode: str
    queues: int
    mtu: int
    offloads: tuple[str, ...]
    """Offloads that attaching switched, as `tso off`."""
    replaced: int


def ifindex_of(nic: str) -> int:
    """Index of a device of the current namespace that XDP may go on; AttachError otherwise."""
    if nic == "lo":
        raise AttachError("lo: VeilNet is never attached to the loopback device; name a NIC")
    try:
        return socket.if_nametoindex(nic)
    except OSError as error:
        names = ", ".join(name for _, name in socket.if_nameindex() if name != "lo")
        raise AttachError(f"{nic}: no such device; there are: {names or 'none'}") from error


def _replaceable(nic: str, state: libbpf.XdpState, ours: Collection[int]) -> int:
    """Id of our program on the device, 0 for none; AttachError for a stranger's."""
    if state.any and state.any not in ours:
        raise AttachError(
            f"{nic}: XDP program {state.any} of somebody else is attached; look at it with `bpftool prog show id "
            f"{state.any}`, and take it off with `ip link set {nic} xdp off` if it may go"
        )
    return state.any


def _why(nic: str, mode: str, mtu: int, error: BpfError) -> str:
    driver = ethtool.driver(nic)
    if error.errno == errno.ERANGE or mtu > XDP_MTU_MAX:
        return f"{nic}: MTU {mtu} is too large for XDP with driver {driver}; at most {XDP_MTU_MAX} is safe"
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return f"{nic}: another XDP program was attached meanwhile; try again"
    if mode == "native" and error.errno == errno.EOPNOTSUPP:
        return f"{nic}: driver {driver} has no native XDP; --allow-generic takes the slower generic mode"
    return f"{nic}: driver {driver} refuses {mode} XDP: {error.strerror}"


def _set(ifindex: int, fd: int, mode_flag: int, old: int) -> None:
    if not old:
        libbpf.xdp_attach(ifindex, fd, mode_flag | XDP_FLAGS_UPDATE_IF_NOEXIST)
        return
    old_fd = libbpf.prog_fd(old)
    try:
        libbpf.xdp_attach(ifindex, fd, mode_flag, old_fd)
    finally:
        os.close(old_fd)


def _link(ifindex: int) -> tuple[int, int]:
    """(MTU, receive queues)."""
    with IPRoute() as ip:
        message = ip.get_links(ifindex)[0]
        return int(message.get_attr("IFLA_MTU")), int(message.get_attr("IFLA_NUM_RX_QUEUES") or 1)


def attach_xdp(nic: str, fd: int, *, ours: Collection[int], allow_generic: bool = False) -> AttachFacts:
    """Put program `fd` on `nic`, in place of one of `ours` (program ids) or of none.

    Native mode; generic only where native is not to be had and `allow_generic` says so, or where it is in use already.
    """
    ifindex = ifindex_of(nic)
    before, (mtu, queues) = ethtool.offloads(nic), _link(ifindex)
    state = libbpf.xdp_query(ifindex)
    old = _replaceable(nic, state, ours)
    modes = [("native", XDP_FLAGS_DRV_MODE)] if not state.generic else []
    if allow_generic or state.generic:
        modes.append(("generic", XDP_FLAGS_SKB_MODE))
    for mode, flag in modes:
        try:
            _set(ifindex, fd, flag, old)
        except BpfError as error:
            if (mode, flag) == modes[-1]:
                raise AttachError(_why(nic, mode, mtu, error)) from error
            continue
        break
    offloads = ethtool.changed(before, ethtool.offloads(nic))
    return AttachFacts(nic, ifindex, ethtool.driver(nic), mode, queues, mtu, offloads, old)


def detach_xdp(nic: str, *, ours: Collection[int]) -> bool:
    """Take our program off `nic`; False, and nothing changed, if what is there is not ours or there is nothing."""
    ifindex = ifindex_of(nic)
    state = libbpf.xdp_query(ifindex)
    if state.any not in ours:
        return False
    flag = XDP_FLAGS_SKB_MODE if state.generic else XDP_FLAGS_DRV_MODE
    _set(ifindex, -1, flag, state.any)
    return True


def attached(ours: Collection[int]) -> dict[str, int]:
    """Devices of the current namespace that carry one of `ours`: name → program id."""
    found = {}
    for ifindex, name in socket.if_nameindex():
        number = libbpf.xdp_query(ifindex).any
        if number in ours:
            found[name] = number
    return found


def attach_emit(ifindex: int, fd: int) -> None:
    """Put a direct-action classifier on a device's TC ingress; replaces its predecessor in one step."""
    libbpf.tc_hook_create(ifindex)
    libbpf.tc_attach(ifindex, fd)
