# SPDX-License-Identifier: Apache-2.0
"""What the translator and the kernel do together: path MTU, fragments, TCP, ping, firewalls, clean-up."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.lab.nat.rig import SERVERS, Pair, Rig, arrives, entered, waiting
from tests.patience import PATIENCE
from veilnet.lab import nat
from veilnet.lab.journal import LabError
from veilnet.lab.nat import Dependence, Firewall, NatKind, Ports
from veilnet.lab.nat.run import run
from veilnet.lab.nat.translator import ROOT

pytestmark = [pytest.mark.lab]

IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h
OPEN = NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT, ports=Ports.RANDOM)
NARROW = 1280


def ping(namespace: str, to: str, size: int = 56) -> bool:
    command = ["nsenter", f"--net=/run/netns/{namespace}", "ping", "-c1", "-w3", "-s", str(size), "-q", to]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def told_mtu(sender: socket.socket, to: tuple[str, int], seconds: float = PATIENCE) -> int | None:
    """Path MTU that the sender's kernel is told after long datagrams; None if it is told nothing in `seconds`."""
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    sender.connect(to)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            sender.send(bytes(1400))
        except OSError:
            return sender.getsockopt(socket.IPPROTO_IP, IP_MTU)
        time.sleep(0.02)
    return None


@pytest.fixture
def narrow(rig: Rig) -> tuple[Rig, str, str, str]:
    """client - nat - router - server, the last link of MTU 1280: rig, NAT, client, server."""
    server, router, node = rig.namespace("srv"), rig.namespace("r"), rig.namespace("nat")
    rig.link(router, "out0", server, "eth0", mtu=NARROW)
    rig.link(node, "out0", router, "in0")
    for name, nic, address in (
        (router, "out0", "203.0.113.1"), (server, "eth0", SERVERS[0]), (router, "in0", "198.51.100.1"),
        (node, "out0", "198.51.100.2"),
    ):  # fmt: skip
        run(name, "ip", "address", "add", f"{address}/24", "dev", nic)
    run(server, "ip", "link", "set", "eth0", "mtu", "1500")
    run(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run(server, "ip", "route", "add", "default", "via", "203.0.113.1")
    run(node, "ip", "route", "add", "default", "via", "198.51.100.1")
    rig.inside_lan(node, "10.0.0.1")
    rig.apply(node, "198.51.100.2", OPEN)
    return rig, node, rig.client("c1", node, "10.0.0.2"), server


def test_an_error_from_beyond_the_nat_reaches_the_sender(narrow: tuple[Rig, str, str, str]) -> None:
    rig, node, client, _ = narrow
    assert told_mtu(rig.udp(client), (SERVERS[0], 7000)) == NARROW
    assert nat.statistics(node)["NAT_OK_ERROR"] >= 1


@pytest.mark.parametrize("kind", [Firewall(icmp_errors=False), Firewall(icmp=False)], ids=["no errors", "no ICMP"])
def test_a_firewall_makes_the_mtu_shrink_silently(narrow: tuple[Rig, str, str, str], kind: Firewall) -> None:
    rig, node, client, server = narrow
    rig.apply(node, "198.51.100.2", replace(OPEN, firewall=kind))
    here, there = rig.udp(client), rig.udp(server, SERVERS[0])
    assert told_mtu(here, there.getsockname(), 0.2) is None
    assert waiting(there) == []
    here.send(b"short")
    assert there.recv(100) == b"short"
    assert ping(client, SERVERS[0]) == kind.icmp


def test_the_nodes_own_error_about_an_inbound_packet_quotes_the_public_endpoint(pair: Pair) -> None:
    pair.apply(OPEN)
    here, there = pair.inside(), pair.outside()
    public = arrives(there, here, there.getsockname())
    run(pair.node, "ip", "link", "set", "in0", "mtu", str(NARROW))
    try:
        assert told_mtu(there, public) == NARROW
    finally:
        run(pair.node, "ip", "link", "set", "in0", "mtu", "1500")
        run(pair.server, "ip", "route", "flush", "cache")


def test_port_unreachable_from_inside_reaches_the_sender_outside(pair: Pair) -> None:
    pair.apply(OPEN)
    here, there = pair.inside(), pair.outside()
    public = arrives(there, here, there.getsockname())
    here.close()
    there.connect(public)
    there.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        there.recv(100)


def test_long_datagrams_pass_in_fragments(pair: Pair) -> None:
    pair.apply(OPEN)
    here, there = pair.inside(), pair.outside()
    data = bytes(range(256)) * 16
    public = arrives(there, here, there.getsockname(), data)
    there.sendto(data[::-1], public)
    assert here.recv(65535) == data[::-1]
    assert nat.statistics(pair.node)["NAT_OK_FRAGMENT"] >= 4


def test_ping_passes_each_way_it_should(pair: Pair) -> None:
    pair.apply(NatKind(ports=Ports.RANDOM))
    assert ping(pair.client, SERVERS[0])
    assert ping(pair.client, SERVERS[0], size=4000)
    assert ping(pair.server, pair.public)
    assert ping(pair.server, pair.public, size=4000)
    assert ping(pair.node, SERVERS[0])
    assert {entry.protocol for entry in nat.mappings(pair.node)} == {"icmp"}


def tcp_peer(pair: Pair) -> str:
    """Address that a server outside sees of a TCP connection from inside, after data went both ways."""
    with entered(pair.server):
        listener = socket.create_server((SERVERS[0], 0))
    with entered(pair.client):
        here = socket.socket()
    with listener, here:
        here.settimeout(PATIENCE)
        here.connect(listener.getsockname())
        there, peer = listener.accept()
        with there:
            here.sendall(b"ping")
            assert there.recv(10) == b"ping"
            there.sendall(b"pong")
            assert here.recv(10) == b"pong"
    return str(peer[0])


def test_tcp_goes_out_by_the_kernel_and_not_in(pair: Pair) -> None:
    pair.apply(nat.KINDS["full-cone"])
    assert tcp_peer(pair) == pair.public
    with entered(pair.client):
        listener = socket.create_server(("10.0.0.2", 0))
    with entered(pair.server):
        stranger = socket.socket()
    run(pair.server, "ip", "route", "add", "10.0.0.0/24", "via", pair.public)
    with listener, stranger:
        stranger.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stranger.connect(listener.getsockname())
    run(pair.server, "ip", "route", "del", "10.0.0.0/24")


def test_blocked_udp_leaves_tcp_and_ping(pair: Pair) -> None:
    pair.apply(replace(OPEN, firewall=Firewall(udp=False)))
    here, there = pair.inside(), pair.outside()
    here.sendto(b"?", there.getsockname())
    assert tcp_peer(pair) == pair.public
    assert ping(pair.client, SERVERS[0])
    assert waiting(there) == []
    pair.apply(OPEN)
    assert arrives(there, here, there.getsockname())


def test_a_router_without_nat_blocks_too(pair: Pair) -> None:
    nat.remove(pair.node, ["in0"], "out0")
    run(pair.server, "ip", "route", "add", "10.0.0.0/24", "via", pair.public)
    try:
        here, there = pair.inside(), pair.outside()
        assert arrives(there, here, there.getsockname())[0] == "10.0.0.2"
        nat.block(pair.node, Firewall(udp=False, icmp=False))
        here.sendto(b"?", there.getsockname())
        assert not ping(pair.client, SERVERS[0])
        assert waiting(there) == []
        nat.block(pair.node, Firewall())
        assert arrives(there, here, there.getsockname())[0] == "10.0.0.2"
        assert "veilnet" not in run(pair.node, "nft", "list", "ruleset")
    finally:
        nat.block(pair.node, Firewall())
        run(pair.server, "ip", "route", "del", "10.0.0.0/24")


# ---- up and down ----------------------------------------------------------------------------------------------------


def traces(node: str) -> tuple[str, ...]:
    """What a NAT leaves in its namespace and on bpffs."""
    filters = [
        run(node, "tc", "filter", "show", "dev", nic, way) for nic in ("in0", "out0") for way in ("ingress", "egress")
    ]
    qdiscs = [run(node, "tc", "qdisc", "show", "dev", nic) for nic in ("in0", "out0")]
    return run(node, "nft", "list", "ruleset"), *filters, *qdiscs, *sorted(map(str, ROOT.glob(f"*/{node}")))


def test_remove_leaves_nothing_and_can_be_repeated(pair: Pair) -> None:
    nat.remove(pair.node, ["in0"], "out0")
    before = traces(pair.node)
    assert "nat" not in "".join(before)
    for _ in range(2):
        pair.apply(OPEN)
        pair.apply(OPEN)
        assert traces(pair.node) != before
        nat.remove(pair.node, ["in0"], "out0")
        nat.remove(pair.node, ["in0"], "out0")
        assert traces(pair.node) == before


def test_remove_leaves_others_filters(pair: Pair) -> None:
    run(pair.node, "tc", "qdisc", "add", "dev", "out0", "clsact")
    pair.apply(OPEN)
    pin = next(ROOT.glob(f"*/{pair.node}/prog_nat_in"))
    run(pair.node, "sh", "-c", f"tc filter add dev out0 ingress prio 9 bpf da pinned {pin}")
    nat.remove(pair.node, ["in0"], "out0")
    left = run(pair.node, "tc", "filter", "show", "dev", "out0", "ingress")
    run(pair.node, "tc", "qdisc", "del", "dev", "out0", "clsact")
    assert "pref 9" in left and "0x47" not in left


def test_a_kind_changes_under_a_live_mapping(pair: Pair) -> None:
    pair.apply(NatKind(filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT))
    here, there, stranger = pair.inside(), pair.outside(), pair.outside()
    public = arrives(there, here, there.getsockname())
    stranger.sendto(b"refused", public)
    pair.rig.apply(pair.node, pair.public, NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT))
    stranger.sendto(b"let in", public)
    assert here.recv(100) == b"let in"


def test_errors_say_what_is_wrong(pair: Pair) -> None:
    public = IPv4Address(pair.public)
    with pytest.raises(LabError, match="no namespace veil-none"):
        nat.apply("veil-none", ["in0"], "out0", public, OPEN)
    with pytest.raises(LabError, match="has no device in9"):
        nat.apply(pair.node, ["in9"], "out0", public, OPEN)
    with pytest.raises(LabError, match=r"192\.0\.2\.1 is not an address of out0"):
        nat.apply(pair.node, ["in0"], "out0", IPv4Address("192.0.2.1"), OPEN)
    with pytest.raises(LabError, match="named as outside and as inside"):
        nat.apply(pair.node, ["in0", "out0"], "out0", public, OPEN)
    with pytest.raises(LabError, match="is no NAT"):
        nat.rebind(pair.server)
    with pytest.raises(ValueError, match="port range"):
        NatKind(port_range=(9, 8))
    with pytest.raises(ValueError, match="udp_timeout"):
        NatKind(udp_timeout=0)
