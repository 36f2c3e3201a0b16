# SPDX-License-Identifier: Apache-2.0
"""The next hop from the kernel's FIB and neighbour table, in a network namespace of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import BODY, K_OUT, OUT, OUT_LABEL, base, frame, packet
from tests.bpf.netns import Namespace
from veilnet import contract as c

pytestmark = pytest.mark.root
PEER_MAC, GATEWAY = "02:aa:bb:cc:dd:01", "192.0.2.1"


@pytest.fixture
def nic() -> Iterator[Namespace]:
    """A namespace with `up0` (192.0.2.9/24, default route by 192.0.2.1) and `fwd0`, a device with forwarding on."""
    with Namespace("bpfhop") as space:
        space.ip("link add up0 type veth peer name up1", "link set up1 up", "link set up0 up")
        space.ip(
            "link add fwd0 type veth peer name fwd1",
            "link set fwd1 up",
            "link set fwd0 up",
            "addr add 192.0.2.9/24 dev up0",
        )
        space.ip(f"route add default via {GATEWAY}")
        space.write("/proc/sys/net/ipv4/conf/fwd0/forwarding", "1")
        yield space


def unresolved(world: h.World, fib_device: str) -> None:
    base(world)
    world.links[2].l2.stamp = 0
    world.config.fib_ifindex = socket.if_nametoindex(fib_device)


def test_found(world: h.World, rx: int, nic: Namespace) -> None:
    nic.ip(f"neigh replace {GATEWAY} lladdr {PEER_MAC} dev up0")
    unresolved(world, "fwd0")
    result = world.run(rx, packet())
    own = bytes.fromhex(nic.mac("up0").replace(":", ""))
    whole = o.sent(OUT.back(), o.seal(K_OUT, OUT_LABEL, 8, 0, BODY), bytes.fromhex(PEER_MAC.replace(":", "")), own)
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_REDIRECT, {"OK_FORWARD": 1}, whole)
    l2 = world.links[2].l2
    assert l2.ifindex == socket.if_nametoindex("up0")
    assert l2.stamp > 0


def test_kept_until_it_is_old(world: h.World, rx: int, nic: Namespace) -> None:
    """A changed neighbour is seen once the cached one is older than VEIL_L2_REFRESH_JIFFIES, not before."""
    nic.ip(f"neigh replace {GATEWAY} lladdr {PEER_MAC} dev up0")
    unresolved(world, "fwd0")
    world.run(rx, packet(frame(counter=1)))
    nic.ip(f"neigh replace {GATEWAY} lladdr 02:aa:bb:cc:dd:02 dev up0")
    assert world.run(rx, packet(frame(counter=2))).packet[5] == 1
    world.links[2].l2.stamp -= c.L2_REFRESH_JIFFIES
    assert world.run(rx, packet(frame(counter=3))).packet[5] == 2


def test_kept_when_the_neighbour_goes(world: h.World, rx: int, nic: Namespace) -> None:
    nic.ip(f"neigh replace {GATEWAY} lladdr {PEER_MAC} dev up0")
    unresolved(world, "fwd0")
    world.run(rx, packet(frame(counter=1)))
    nic.ip(f"neigh del {GATEWAY} dev up0")
    world.links[2].l2.stamp -= c.L2_REFRESH_JIFFIES
    assert world.run(rx, packet(frame(counter=2))).reasons == {"OK_FORWARD": 1}


def test_never_behind_the_overlay_device(world: h.World, rx: int, nic: Namespace) -> None:
    """An accepted network that holds the next relay's address: the frame does not go into the overlay, with a neighbour
    or without, and what was found before stays in use."""
    unresolved(world, "fwd0")
    world.config.veil0_ifindex = socket.if_nametoindex("up0")
    assert world.run(rx, packet(frame(counter=1))).reasons == {"DROP_LOOP": 1}
    nic.ip(f"neigh replace {GATEWAY} lladdr {PEER_MAC} dev up0")
    assert world.run(rx, packet(frame(counter=2))).reasons == {"DROP_LOOP": 1}
    world.config.veil0_ifindex = 0
    assert world.run(rx, packet(frame(counter=3))).reasons == {"OK_FORWARD": 1}
    world.config.veil0_ifindex = socket.if_nametoindex("up0")
    world.links[2].l2.stamp -= c.L2_REFRESH_JIFFIES
    nic.ip(f"neigh replace {GATEWAY} lladdr 02:aa:bb:cc:dd:02 dev up0")
    done = world.run(rx, packet(frame(counter=4)))
    assert (done.reasons, done.packet[5]) == ({"OK_FORWARD": 1}, 1)


@pytest.mark.parametrize(
    ("device", "commands", "reason"),
    [
        ("fwd0", (), "DROP_NO_NEIGH"),
        ("fwd0", ("route del default",), "DROP_NO_ROUTE"),
        ("fwd0", ("route replace unreachable default",), "DROP_NO_ROUTE"),
        ("up0", (f"neigh replace {GATEWAY} lladdr {PEER_MAC} dev up0",), "DROP_NO_ROUTE"),  # no forwarding on up0
    ],
)
def test_not_found(  # noqa: PLR0917
    world: h.World, rx: int, nic: Namespace, device: str, commands: tuple[str, ...], reason: str
) -> None:
    nic.ip(*commands)
    unresolved(world, device)
    result = world.run(rx, packet())
    assert (result.verdict, result.reasons, result.packet) == (h.XDP_DROP, {reason: 1}, packet())
    assert world.links[2].tx[0].counter == 0
