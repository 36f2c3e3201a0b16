# SPDX-License-Identifier: Apache-2.0
"""Attachment: where it must refuse, what it says, and that a replacement is one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from veilnet.loader import attach, ethtool, libbpf, pins, program
from veilnet.loader.attach import AttachError, attach_xdp, detach_xdp
from veilnet.loader.program import Program

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]


@pytest.fixture(name="one")
def _one(pin_dir: Path) -> Iterator[Program]:
    with program.load("xdp_pass.c", pin_dir) as loaded:
        yield loaded


@pytest.fixture(name="two")
def _two(pin_dir: Path) -> Iterator[Program]:
    with program.load("xdp_pass.c", pin_dir) as loaded:
        yield loaded


def _on(nic: str) -> libbpf.XdpState:
    return libbpf.xdp_query(socket.if_nametoindex(nic))


def _add(name: str, kind: str) -> None:
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind=kind)
        ip.link("set", ifname=name, state="up")


def test_native_replaced_detached(one: Program, two: Program) -> None:
    facts = attach_xdp("n0", one.fd, ours=())
    assert (facts.nic, facts.driver, facts.mode, facts.mtu, facts.replaced) == ("n0", "veth", "native", 1500, 0)
    assert facts.queues >= 1 and facts.ifindex == socket.if_nametoindex("n0")
    assert _on("n0") == libbpf.XdpState(one.id, 0, 0)
    assert attach_xdp("n0", two.fd, ours={one.id}).replaced == one.id
    assert attach.attached({one.id, two.id}) == {"n0": two.id}
    assert detach_xdp("n0", ours={two.id}) and _on("n0").any == 0
    assert not detach_xdp("n0", ours={two.id})


@pytest.mark.parametrize("generic", [False, True])
def test_a_strangers_program_stays(one: Program, two: Program, generic: bool) -> None:
    flag = libbpf.XDP_FLAGS_SKB_MODE if generic else libbpf.XDP_FLAGS_DRV_MODE
    libbpf.xdp_attach(socket.if_nametoindex("n0"), one.fd, flag)
    with pytest.raises(AttachError, match=f"n0: XDP program {one.id} of somebody else.*ip link set n0 xdp off"):
        attach_xdp("n0", two.fd, ours={two.id}, allow_generic=True)
    assert not detach_xdp("n0", ours={two.id})
    assert _on("n0").any == one.id


def test_never_lo(one: Program) -> None:
    with pytest.raises(AttachError, match="never attached to the loopback"):
        attach_xdp("lo", one.fd, ours=(), allow_generic=True)


def test_missing_device_lists_what_there_is(one: Program) -> None:
    with pytest.raises(AttachError, match=r"eth9: no such device; there are: .*n0"):
        attach_xdp("eth9", one.fd, ours=())


def test_generic_only_when_asked_for(one: Program, two: Program) -> None:
    _add("br0", "bridge")
    with pytest.raises(AttachError, match=r"driver bridge has no native XDP; --allow-generic"):
        attach_xdp("br0", one.fd, ours=())
    assert _on("br0").any == 0
    assert attach_xdp("br0", one.fd, ours=(), allow_generic=True).mode == "generic"
    assert _on("br0") == libbpf.XdpState(0, one.id, 0)
    assert attach_xdp("br0", two.fd, ours={one.id}, allow_generic=True).replaced == one.id
    assert detach_xdp("br0", ours={two.id}) and _on("br0").any == 0


def test_generic_is_not_taken_where_native_works(one: Program) -> None:
    assert attach_xdp("n0", one.fd, ours=(), allow_generic=True).mode == "native"


def test_mtu_too_large(one: Program) -> None:
    with IPRoute() as ip:
        for name in ("n0", "n1"):
            ip.link("set", ifname=name, mtu=9000)
    with pytest.raises(AttachError, match=f"n0: MTU 9000 is too large.*{attach.XDP_MTU_MAX}"):
        attach_xdp("n0", one.fd, ours=())
    assert _on("n0").any == 0


def test_offloads_are_read_and_set() -> None:
    before = ethtool.offloads("n0")
    assert before["tso"] and ethtool.driver("n0") == "veth"
    ethtool.set_offload("n0", "tso", False)
    assert ethtool.changed(before, ethtool.offloads("n0")) == ("tso off",)
    ethtool.set_offload("n0", "tso", True)
    assert ethtool.offloads("n0") == before


def test_emit_is_replaced(pin_dir: Path) -> None:
    ifindex = socket.if_nametoindex("n0")
    assert libbpf.tc_query(ifindex) == 0
    pins.create_maps(pin_dir)
    with (
        program.load("veil_emit.c", pin_dir, prog_type="sched_cls") as one,
        program.load("veil_emit.c", pin_dir, prog_type="sched_cls") as two,
    ):
        attach.attach_emit(ifindex, one.fd)
        attach.attach_emit(ifindex, two.fd)
        assert libbpf.tc_query(ifindex) == two.id
