# SPDX-License-Identifier: Apache-2.0
"""A real gateway: h1, which knows nothing of VeilNet, behind c2, reached from c1 through a NAT and a Guardian.

c1 ── n1 ── g1 ── c2 ── h1 192.168.7.0/24      c1 has nothing but a default route in the underlay
            └──── c3
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_network

import pytest

from tests.keyd.net import inner_packet
from tests.lab.conftest import running
from tests.patience import PATIENCE, promised, wait_for
from veilnet.keyd.bpf_plane import BpfPlane
from veilnet.lab import measure
from veilnet.lab.fleet import Fleet
from veilnet.loader import pins

pytestmark = [pytest.mark.lab, pytest.mark.root]

GATEWAY = """\
name: gateway
nodes:
  master: {role: master}
  c1: {role: conflux}
  n1: {role: nat, mapping: endpoint-independent, filtering: address-and-port-dependent, outside: g1}
  g1: {role: guardian}
  c2: {role: conflux}
  c3: {role: conflux}
  h1: {role: host}
links:
  - [c1, n1]
  - [n1, g1]
  - [g1, c2]
  - [g1, c3]
  - {ends: [c2, h1], ipv4: 192.168.7.0/24, ipv6: '2001:db8:7::/64', addresses: {c2: [192.168.7.1], h1: [192.168.7.20]}}
edges:
  - [c1, g1]
  - [g1, c2]
  - [g1, c3]
"""
LAN, LAN6, HOST = "192.168.7.0/24", "2001:db8:7::/64", "192.168.7.20"
WITHIN = promised(5.0)
"""Seconds for a change at the Master to be felt."""

# Sends and receives a MiB over TCP; prints the SHA-256 of what came. Arguments: address, "serve" or "ask".
_TCP = """
import hashlib, socket, sys
address, role = sys.argv[1], sys.argv[2]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
data = hashlib.shake_128(role.encode()).digest(1 << 20)
if role == "serve":
    listener = socket.create_server((address, 7777), family=family)
    print("ready", flush=True)
    listener.settimeout(60)
    peer, _ = listener.accept()
else:
    peer = socket.create_connection((address, 7777), 60)
peer.settimeout(60)
import threading
threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR))).start()
got = hashlib.sha256()
while piece := peer.recv(65536):
    got.update(piece)
print(got.hexdigest(), flush=True)
"""

# Sends an IPv4 packet into a device as the host would. Arguments: device, packet in hexadecimal.
_INJECT = """
import socket, sys
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packet.bind((sys.argv[1], 0))
packet.send(bytes(12) + b"\\x08\\0" + bytes.fromhex(sys.argv[2]))
"""


def run(fleet: Fleet, node: str, command: str) -> str:
    return measure.output(fleet.lab, node, command.split())


def pings(fleet: Fleet, node: str, address: str, *words: str, seconds: int = 10) -> bool:
    """Whether the one request is answered."""
    command = fleet.lab.command(node, ["ping", "-n", "-c", "1", "-W", str(seconds), *words, address])
    return not subprocess.run(command, check=False, capture_output=True).returncode


def within(holds: Callable[[], bool], seconds: float = WITHIN) -> float:
    return wait_for(holds, seconds)


def reason(fleet: Fleet, node: str, name: str) -> int:
    return int(fleet.status(node)["data_plane"][name])


@contextmanager
def counting(fleet: Fleet, node: str, name: str) -> Iterator[None]:
    """This reason is counted meanwhile."""
    before = reason(fleet, node, name)
    yield
    assert reason(fleet, node, name) > before, f"{node} counted no {name}"


def approve(fleet: Fleet, **networks: tuple[str, ...]) -> None:
    """These networks, by node, and no others: what a gateway proposes is decided, anything else is named."""
    with fleet.administrator() as admin:
        ids = {node["id"]: node["name"] for node in admin.call("GET", "/nodes")["items"]}
        wanted = {(name, prefix) for name, prefixes in networks.items() for prefix in prefixes}
        for row in admin.call("GET", "/advertised-networks")["items"]:
            found = ids[row["node_id"]], row["prefix"]
            if found in wanted:
                wanted.discard(found)
                admin.call("POST", f"/advertised-networks/{row['id']}:approve")
            elif row["proposed"]:
                admin.call("POST", f"/advertised-networks/{row['id']}:reject")
            else:
                admin.call("DELETE", f"/advertised-networks/{row['id']}")
        for node_id, name in ids.items():
            for prefix in sorted(prefix for other, prefix in wanted if other == name):
                admin.call("POST", "/advertised-networks", {"node_id": node_id, "prefix": prefix})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("gateway") / "gateway.yml"
    path.write_text(GATEWAY)
    with running(str(path)) as fleet:
        fleet.variables["c1"] = {"VEILNET_ACCEPT_NETWORKS": "1"}
        fleet.variables["c2"] = {"VEILNET_OFFER_NETWORKS": "0.0.0.0/0 2001:db8::/32"}
        restart(fleet, "c1")
        restart(fleet, "c2")
        for device in ("veil0", "u-h1"):
            run(fleet, "c2", f"sysctl -q -w net.ipv4.conf.{device}.forwarding=1")
        run(fleet, "c2", "sysctl -q -w net.ipv6.conf.all.forwarding=1")
        run(fleet, "h1", "ip route add 10.90.0.0/16 via 192.168.7.1")
        run(fleet, "h1", f"ip -6 route add default via {lan6(fleet, 'c2')}")
        within(lambda: all(fleet.status(node)["master"]["connected"] for node in ("c1", "c2", "c3")), PATIENCE)
        approve(fleet, c2=(LAN, LAN6))
        within(lambda: routed(fleet, "c1", HOST), PATIENCE)
        yield fleet


def restart(fleet: Fleet, node: str) -> None:
    fleet.kill(node)
    fleet.start_node(fleet.topology.nodes[node])


def routed(fleet: Fleet, node: str, address: str) -> bool:
    """Whether the kernel sends there by the overlay: what has a socket before it does stays where it is."""
    return " dev veil0 " in run(fleet, node, f"ip route get {address}")


def accepted(fleet: Fleet, node: str) -> dict[str, str]:
    return dict(fleet.status(node)["networks"]["accepted"])


def lan6(fleet: Fleet, node: str) -> str:
    words = run(fleet, node, "ip -6 -o addr show scope global").split()
    return next(word.partition("/")[0] for word in words if word.startswith("2001:db8:7:"))


def routing(fleet: Fleet, node: str) -> str:
    return run(fleet, node, "ip rule") + run(fleet, node, "ip route show table all")


# ---- what works -------------------------------------------------------------------------------------------------


def test_a_host_behind_the_gateway_is_reached(fleet: Fleet) -> None:
    first = measure.first_packet_ms(fleet.lab, "c1", HOST)
    print(f"first packet to a host behind a gateway: {first:.0f} ms")
    assert pings(fleet, "c1", HOST, "-s", "1300", "-M", "do")
    assert measure.first_packet_ms(fleet.lab, "c1", lan6(fleet, "h1")) < promised(5000)
    assert fleet.status("c2")["networks"]["missing"] == []
    hops = [row["path"] for row in fleet.status("c1")["streams"] if row["peer"] == "c2"]
    assert hops == [["g1", "c2"]]


def test_the_gateway_has_proposed_what_it_offers(fleet: Fleet) -> None:
    with fleet.administrator() as admin:
        rows = admin.call("GET", "/advertised-networks")["items"]
    proposed = {row["prefix"]: row["state"] for row in rows if row["proposed"]}
    assert proposed == {"0.0.0.0/0": "rejected", "2001:db8::/32": "rejected"}


def test_and_starts_connections_itself(fleet: Fleet) -> None:
    assert measure.first_packet_ms(fleet.lab, "h1", fleet.overlay_address("c1")) < promised(5000)


@pytest.mark.parametrize("serving", ["h1", "c1"])
def test_tcp_passes_both_ways_whole(fleet: Fleet, serving: str) -> None:
    """What a LAN's host sends in segments of its own device's making is checksummed and cut before it is sealed."""
    asking = "c1" if serving == "h1" else "h1"
    address = HOST if serving == "h1" else fleet.overlay_address("c1")
    program = [sys.executable, "-c", _TCP, address]
    with subprocess.Popen(fleet.lab.command(serving, [*program, "serve"]), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        got = measure.output(fleet.lab, asking, [*program, "ask"]).strip()
        there = server.stdout.read().strip()
    sums = [hashlib.sha256(hashlib.shake_128(role).digest(1 << 20)).hexdigest() for role in (b"serve", b"ask")]
    assert [got, there] == sums


def test_the_daemon_dies_and_all_goes_on(fleet: Fleet) -> None:
    measure.first_packet_ms(fleet.lab, "c1", HOST)
    before = routing(fleet, "c1")
    fleet.kill("c1")
    assert pings(fleet, "c1", HOST)
    fleet.start_node(fleet.topology.nodes["c1"])
    assert pings(fleet, "c1", HOST)
    within(lambda: routing(fleet, "c1") == before)


# ---- what does not ----------------------------------------------------------------------------------------------


def test_who_does_not_accept_has_no_route_and_takes_nothing(fleet: Fleet) -> None:
    assert "proto 86" not in routing(fleet, "c3")
    assert not pings(fleet, "c3", HOST, seconds=1)
    measure.first_packet_ms(fleet.lab, "c3", fleet.overlay_address("c2"))
    with counting(fleet, "c3", "DROP_INNER_SRC"):
        assert not pings(fleet, "h1", fleet.overlay_address("c3"), seconds=1)


@pytest.mark.parametrize(("node", "source"), [("c3", "192.168.7.99"), ("c2", "192.168.8.1"), ("c2", "10.90.0.200")])
def test_spoofed_sources_are_dropped(fleet: Fleet, node: str, source: str) -> None:
    """Another node in the name of the network's hosts; the gateway in the name of anything else."""
    target = fleet.overlay_address("c1")
    measure.first_packet_ms(fleet.lab, node, target)
    run(fleet, node, f"ip addr add {source}/32 dev lo")
    try:
        with counting(fleet, "c1", "DROP_INNER_SRC"):
            assert not pings(fleet, node, target, "-I", source, seconds=1)
    finally:
        run(fleet, node, f"ip addr del {source}/32 dev lo")
    assert pings(fleet, node, target)


@pytest.mark.parametrize("target", ["192.168.8.1", "127.0.0.1", "10.90.0.200", "224.0.0.1"])
def test_the_gateway_delivers_to_nothing_that_is_not_approved(fleet: Fleet, target: str) -> None:
    """A member that has rewritten its own table: nothing there is signed."""
    measure.first_packet_ms(fleet.lab, "c1", HOST)
    plane = BpfPlane(pins.instance_dir(fleet.lab.instance("c1")))
    forged, way = (0, ip_network(target)), plane.networks()[0, ip_network(LAN)]
    packet = inner_packet(IPv4Address(fleet.overlay_address("c1")), IPv4Address(target), 1)
    before = reason(fleet, "c2", "DROP_INNER_NOT_OURS")

    def refused() -> bool:
        """keyd repairs the table every 5 s: once may be too late."""
        plane.put_network(*forged, peer=way[0], stream=way[1])
        measure.output(fleet.lab, "c1", [sys.executable, "-c", _INJECT, "veil0", packet.hex()])
        time.sleep(0.2)
        return reason(fleet, "c2", "DROP_INNER_NOT_OURS") > before

    try:
        within(refused)
        within(lambda: forged not in plane.networks(), promised(10))  # keyd repairs it
    finally:
        plane.remove_network(*forged)
        plane.close()


def test_everything_is_accepted_and_nothing_circles(fleet: Fleet) -> None:
    """0.0.0.0/0 holds the NAT's, the Guardian's and the Master's address. A daemon that shakes hands anew and the
    data plane's look-ups, still find the way that is not the overlay."""
    approve(fleet, c2=("0.0.0.0/0", LAN6))
    within(lambda: "0.0.0.0/0" in accepted(fleet, "c1"))
    guardian = str(fleet.topology.links[1].address("g1"))
    within(lambda: routed(fleet, "c1", guardian))
    fleet.veilnet("c1", "conflux", "down")
    assert "proto 86" not in routing(fleet, "c1")
    fleet.start_node(fleet.topology.nodes["c1"])
    within(lambda: routed(fleet, "c1", guardian), promised(10))
    assert measure.first_packet_ms(fleet.lab, "c1", HOST) < promised(10_000)
    time.sleep(1.5)  # next hops are looked up again
    assert pings(fleet, "c1", HOST)
    told = fleet.status("c1")
    assert told["master"]["connected"]
    assert told["data_plane"]["DROP_LOOP"] == 0
    assert {link["peer"] for link in told["links"]} == {"g1"}
    before = told["data_plane"]
    # an application's packets do take the network's way, and end at the gateway
    pings(fleet, "c1", guardian, seconds=1)
    after = fleet.status("c1")["data_plane"]
    assert after["OK_SEAL"] + after["OK_SEAL_TC"] - before["OK_SEAL"] - before["OK_SEAL_TC"] < 50
    approve(fleet, c2=(LAN, LAN6))
    within(lambda: accepted(fleet, "c1") == {LAN: "c2", LAN6: "c2"})


def test_a_gateway_that_does_not_forward_is_told(fleet: Fleet) -> None:
    run(fleet, "c2", "sysctl -q -w net.ipv4.conf.u-h1.forwarding=0")
    try:
        within(lambda: fleet.status("c2")["networks"]["missing"] == ["net.ipv4.conf.u-h1.forwarding=1"], promised(15))
    finally:
        run(fleet, "c2", "sysctl -q -w net.ipv4.conf.u-h1.forwarding=1")
    within(lambda: fleet.status("c2")["networks"]["missing"] == [], promised(15))


def test_withdrawn_is_gone_and_the_stream_stays(fleet: Fleet) -> None:
    measure.first_packet_ms(fleet.lab, "c1", HOST)
    approve(fleet)
    took = within(lambda: "proto 86" not in routing(fleet, "c1"))
    print(f"routes of a withdrawn network gone {took:.2f} s after the approval")
    assert accepted(fleet, "c1") == {}
    assert not pings(fleet, "c1", HOST, seconds=1)
    assert fleet.status("c2")["networks"]["own"] == []
    with counting(fleet, "c1", "DROP_INNER_SRC"):
        assert not pings(fleet, "h1", fleet.overlay_address("c1"), seconds=1)
    assert pings(fleet, "c1", fleet.overlay_address("c2"))
    approve(fleet, c2=(LAN, LAN6))
    within(lambda: pings(fleet, "c1", HOST, seconds=1), promised(10))


def test_down_leaves_no_rule(fleet: Fleet) -> None:
    fleet.veilnet("c1", "conflux", "down")
    assert "proto 86" not in routing(fleet, "c1")
