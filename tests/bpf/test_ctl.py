# SPDX-License-Identifier: Apache-2.0
"""veil_ctl: keyd's own frames."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import BODY, HS_BODY, K_OUT, K_OUT_NEXT, OUT, base, set_link
from tests.bpf.netns import Namespace
from veilnet import contract as c
from veilnet.loader import libbpf

pytestmark = pytest.mark.root


def request(link: int = 2, label: int = 0, budget: int = 0, flags: int = 0, body: bytes = HS_BODY) -> bytes:
    return bytes(c.CtlReq(link=link, label=label, budget=budget, flags=flags)) + body


def sealed(label: int = 0, budget: int = 0, counter: int = 0, body: bytes = HS_BODY, key: o.SipKey = K_OUT) -> bytes:
    return o.seal(key, label, budget, counter, body)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        (request(), sealed()),
        (request(label=1, budget=1), sealed(1, 1)),
        (request(label=0xFFFFFF, budget=255), sealed(0xFFFFFF, 255)),
        (request(body=BODY[:16]), sealed(body=BODY[:16])),
        (request(body=bytes(1456)), sealed(body=bytes(1456))),
    ],
)
def test_seals(world: h.World, ctl: int, asked: bytes, got: bytes) -> None:
    base(world)
    result = world.run(ctl, asked)
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_TX, {"OK_CTL": 1}, got)
    assert world.links[2].tx[0].counter == 1
    assert world.links[2].tx_seen > 0


def test_takes_the_counter_of_the_data_plane(world: h.World, ctl: int) -> None:
    base(world)
    frames = [o.unseal(K_OUT, world.run(ctl, request()).packet) for _ in range(3)]
    assert [f and f.counter for f in frames] == [0, 1, 2]


def test_longer_than_the_mtu(world: h.World, ctl: int) -> None:
    """A probe is longer than what the link is known to carry."""
    base(world)
    world.links[2].mtu = 100
    assert world.run(ctl, request()).packet == sealed()


def test_selected_slot(world: h.World, ctl: int) -> None:
    base(world)
    set_link(world, 2, tx_slot=1)
    tx = world.links[2].tx[1]
    tx.key.mac[:], tx.key.enc[:], tx.counter = h.words(K_OUT_NEXT.mac), h.words(K_OUT_NEXT.enc), 40
    assert world.run(ctl, request()).packet == sealed(counter=40, key=K_OUT_NEXT)
    assert (world.links[2].tx[0].counter, world.links[2].tx[1].counter) == (0, 41)


@pytest.mark.parametrize(
    ("asked", "change", "reason"),
    [
        (request(link=0), {}, "DROP_CTL"),
        (request(link=c.LINKS), {}, "DROP_CTL"),
        (request(link=0xFFFFFFFF), {}, "DROP_CTL"),
        (request(label=1 << 24), {}, "DROP_CTL"),
        (request(budget=256), {}, "DROP_CTL"),
        (request(flags=2), {}, "DROP_CTL"),
        (request(body=BODY[:15]), {}, "DROP_CTL"),
        (request(body=b"")[:16], {}, "DROP_CTL"),
        (request(), {"state": c.LINK_UNSET}, "DROP_LINK_DOWN"),
        (request(), {"state": c.LINK_PENDING}, "DROP_LINK_DOWN"),
    ],
)
def test_refuses(world: h.World, ctl: int, asked: bytes, change: dict[str, Any], reason: str) -> None:
    base(world)
    set_link(world, 2, **change)
    result = world.run(ctl, asked)
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_DROP, {reason: 1}, asked)
    assert world.links[2].tx[0].counter == 0


def test_exhausted(world: h.World, ctl: int) -> None:
    base(world)
    world.links[2].tx[0].counter = c.COUNTER_LIMIT - 1
    assert world.run(ctl, request()).packet == sealed(counter=c.COUNTER_LIMIT - 1)
    result = world.run(ctl, request())
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_DROP, {"DROP_EXHAUSTED": 1}, request())


def test_emit_builds_the_outer_headers(world: h.World, ctl: int) -> None:
    base(world)
    result = world.run(ctl, request(label=3, budget=4, flags=c.CTL_F_EMIT))
    whole = o.sent(OUT.back(), sealed(3, 4), o.mac_bytes(2, 1), o.mac_bytes(2, 2))
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_REDIRECT, {"OK_CTL": 1}, whole)


def test_emit_without_a_next_hop(world: h.World, ctl: int) -> None:
    base(world)
    world.links[2].l2.stamp = 0
    result = world.run(ctl, request(flags=c.CTL_F_EMIT))
    assert (result.verdict, result.reasons) == (h.XDP_DROP, {"DROP_NO_ROUTE": 1})


def test_emit_probe_leaves_the_nic(world: h.World, ctl: int, load_program: Callable[[str], int]) -> None:
    """With live frames the probe is on the wire: what the peer end receives, whole."""
    peer_pass = load_program("xdp_pass.c")
    with Namespace("bpfemit") as space:
        space.ip("link add up0 type veth peer name up1", "link set up1 up", "link set up0 up")
        libbpf.xdp_attach(socket.if_nametoindex("up1"), peer_pass, libbpf.XDP_FLAGS_DRV_MODE)
        base(world)
        world.links[2].l2.ifindex = socket.if_nametoindex("up0")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.bind(("up1", 0x0800))
            wire.settimeout(5)
            libbpf.test_run(ctl, request(label=3, budget=4, flags=c.CTL_F_EMIT), live_frames=True)
            got = wire.recv(2048)
    assert got == o.sent(OUT.back(), sealed(3, 4), o.mac_bytes(2, 1), o.mac_bytes(2, 2))
