# SPDX-License-Identifier: Apache-2.0
"""Networks behind Confluxes, in memory: who sends where, what is taken, what a changed directory takes away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest

from tests.keyd.net import START, Net, Node, inner_packet
from veilnet.contract import NETWORKS, PEER_NONE, PEER_SELF, SCOPE_TO
from veilnet.keyd.core import NetworkChoice
from veilnet.protocol.networks import IpNetwork
from veilnet.protocol.policy import read_policy

OVERLAY = (ip_network("100.64.0.0/24"), ip_network("fd00::/64"))
ANYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
ACCEPTS, REFUSES = NetworkChoice(True, OVERLAY, ANYTHING), NetworkChoice(False, OVERLAY, ANYTHING)
OFFICE, HOST = "192.168.7.0/24", IPv4Address("192.168.7.20")


def nets(*texts: str) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def approve(net: Net, approved: Mapping[str, tuple[str, ...]]) -> None:
    """The Master approves these networks, by node, and no others; everybody hears of it."""
    views = {
        node.view.node_id: replace(node.view, networks=nets(*approved.get(name, ())))
        for name, node in net.nodes.items()
    }
    tell(net, nodes=views)


def tell(net: Net, **changes: object) -> None:
    net.directory = replace(net.directory, version=net.directory.version + 1, **changes)  # type: ignore[arg-type]
    for node in net.nodes.values():
        if not node.stopped:
            net.act(node, node.engine.set_directory(net.directory, net.now))


def realm(**approved: tuple[str, ...]) -> Net:
    """a and b accept, c does not; all meet at g."""
    nodes = {"a": "c", "g": "g", "b": "c", "c": "c"}
    net = Net(nodes, [("a", "g"), ("g", "b"), ("g", "c")])
    for name, node in net.nodes.items():
        node.choice = REFUSES if name == "c" else ACCEPTS
        node.boot(net)
    approve(net, approved)
    return net


def packet(src: object, dst: object, number: int = 1) -> bytes:
    return inner_packet(IPv4Address(str(src)), IPv4Address(str(dst)), number)


def pass_on(net: Net, src: str, raw: bytes, seconds: float = 5.0) -> None:
    node = net.nodes[src]
    net.output(node, node.plane.send_inner(raw))
    net.run(seconds)


def numbers(node: Node) -> dict[str, int]:
    """Numbers of other nodes in `node`'s maps, by overlay address."""
    return {str(network.network_address): peer for network, (peer, _) in node.plane.routes().items()}


# ---- packets ----------------------------------------------------------------------------------------------------


def test_a_network_is_reached_and_answers() -> None:
    """The first packet makes the stream to the gateway; what comes back has a source in the network."""
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    asked = packet(a.view.ipv4, HOST)
    pass_on(net, "a", asked)
    assert b.delivered == [asked]
    answer = packet(HOST, a.view.ipv4, 2)
    pass_on(net, "b", answer)
    assert a.delivered == [answer]
    assert a.routed is not None
    assert (a.routed.accepted, a.routed.own) == (nets(OFFICE), ())
    assert b.routed is not None
    assert (b.routed.accepted, b.routed.own) == ((), nets(OFFICE))


def test_site_to_site() -> None:
    net = realm(a=("172.20.0.0/16",), b=(OFFICE,))
    asked = packet("172.20.1.1", HOST)
    pass_on(net, "a", asked)
    assert net.nodes["b"].delivered == [asked]


@pytest.mark.parametrize("source", ["192.168.8.1", "100.64.0.9", "10.0.0.1"])
def test_a_gateway_can_t_send_from_elsewhere(source: str) -> None:
    net = realm(b=(OFFICE,))
    pass_on(net, "b", packet(source, net.nodes["a"].view.ipv4))
    assert net.nodes["a"].delivered == []
    assert net.nodes["a"].plane.reasons()["DROP_INNER_SRC"] == 1


def test_a_wide_network_does_not_cover_another_s_address() -> None:
    net = realm(b=("100.0.0.0/8",))
    pass_on(net, "b", packet(net.nodes["c"].view.ipv4, net.nodes["a"].view.ipv4))
    assert net.nodes["a"].plane.reasons()["DROP_INNER_SRC"] == 1


def test_what_is_not_approved_is_not_delivered() -> None:
    """A sender that believes in a network that its gateway was not given."""
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    a.plane.put_network(SCOPE_TO, IPv4Network("10.0.0.0/8"), peer=numbers(a)[str(b.view.ipv4)], stream=1)
    pass_on(net, "a", packet(a.view.ipv4, "10.2.3.4"), 0.1)
    assert b.plane.reasons()["DROP_INNER_NOT_OURS"] == 1
    assert len(b.delivered) == 1


@pytest.mark.parametrize(
    ("offered", "own"),
    [
        ((), ()),
        (("10.0.0.0/8",), ()),
        (("192.168.7.0/25",), ()),
        ((OFFICE,), (OFFICE,)),
        (("192.168.0.0/16",), (OFFICE,)),
    ],
)
def test_the_master_alone_opens_no_host(offered: tuple[str, ...], own: tuple[str, ...]) -> None:
    """An approved network has to lie in what the gateway's owner offers."""
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    b.choice = NetworkChoice(False, OVERLAY, nets(*offered))
    b.boot(net)
    assert b.engine.streams.networks.own() == nets(*own)
    assert b.engine.snapshot()["networks"]["not_offered"] == ([] if own else [OFFICE])
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    assert len(b.delivered) == len(own)
    assert b.plane.reasons().get("DROP_INNER_NOT_OURS", 0) == 1 - len(own)


def test_who_does_not_accept_neither_sends_nor_takes() -> None:
    net = realm(b=(OFFICE,))
    c = net.nodes["c"]
    pass_on(net, "c", packet(c.view.ipv4, HOST))
    assert c.plane.reasons()["DROP_INNER_DST"] == 1
    pass_on(net, "b", packet(HOST, c.view.ipv4))
    assert (c.delivered, c.plane.reasons()["DROP_INNER_SRC"]) == ([], 1)
    assert c.routed is not None
    assert c.routed.accepted == ()
    net.send("b", "c", 7)
    net.run(5)
    assert net.received("c") == [7]


def test_the_policy_decides_as_for_the_gateway() -> None:
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    rule = {"name": "apart", "effect": "deny", "between": ["node:a"], "and": ["node:b"]}
    tell(net, policy=read_policy({"rules": [rule]}))
    assert (a.plane.networks(), a.routed and a.routed.accepted) == ({}, ())
    pass_on(net, "a", packet(a.view.ipv4, HOST, 2))
    assert len(b.delivered) == 1


# ---- changes ----------------------------------------------------------------------------------------------------


def test_withdrawal_takes_effect_at_once_and_the_stream_stays() -> None:
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    approve(net, {})
    assert (a.plane.networks(), b.plane.networks()) == ({}, {})
    assert (a.routed and a.routed.accepted, b.routed and b.routed.own) == ((), ())
    pass_on(net, "a", packet(a.view.ipv4, HOST, 2), 0.1)
    pass_on(net, "b", packet(HOST, a.view.ipv4, 3), 0.1)
    assert (len(b.delivered), a.delivered) == (1, [])
    net.send("a", "b", 4)
    net.run(0.1)
    assert net.received("b")[-1] == 4
    assert a.engine.snapshot()["counters"].get("stream_build_failed") is None


def test_only_the_gateway_has_heard_of_the_withdrawal() -> None:
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    net.directory = replace(net.directory, nodes={n.view.node_id: n.view for n in net.nodes.values()}, version=9)
    net.act(b, b.engine.set_directory(net.directory, net.now))
    pass_on(net, "a", packet(a.view.ipv4, HOST, 2), 0.1)
    assert (len(b.delivered), b.plane.reasons()["DROP_INNER_NOT_OURS"]) == (1, 1)


def test_routes_follow_the_stream() -> None:
    """A stream that ends leaves the network without one; the next packet makes another."""
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    (stream,) = a.engine.streams.by_index.values()
    key = (SCOPE_TO, ip_network(OFFICE))
    assert a.plane.networks()[key][1] == stream.index
    a.engine.streams.drop(stream, "test")
    assert a.plane.networks()[key][1] == 0
    pass_on(net, "a", packet(a.view.ipv4, HOST, 2))
    assert len(b.delivered) == 2


def test_restart_finds_everything_and_repairs_what_differs() -> None:
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    held = a.plane.networks()
    a.plane.put_network(SCOPE_TO, IPv4Network("0.0.0.0/0"), peer=1, stream=1)
    a.plane.put_network(77, IPv4Network("0.0.0.0/0"), peer=77, stream=0)
    a.boot(net)
    assert a.plane.networks() == held
    pass_on(net, "a", packet(a.view.ipv4, HOST, 2), 0.1)
    assert len(b.delivered) == 2


def test_restart_without_accepting_takes_all_away() -> None:
    net = realm(b=(OFFICE,))
    a = net.nodes["a"]
    a.choice, a.routed = REFUSES, None
    a.boot(net)
    assert a.plane.networks() == {}
    assert a.routed is not None  # an earlier run may have left routes
    assert a.routed.accepted == ()


def test_a_certificate_that_runs_out_takes_its_networks_along() -> None:
    net = realm(b=(OFFICE,))
    a, b = net.nodes["a"], net.nodes["b"]
    ends = replace(b.view, networks=nets(OFFICE), not_after=int(START) + 60)
    tell(net, nodes={**net.directory.nodes, b.view.node_id: ends})
    assert a.plane.networks()
    net.run(70)
    assert (a.plane.networks(), a.routed and a.routed.accepted) == ({}, ())


# ---- overlaps ---------------------------------------------------------------------------------------------------


def gateways_of(node: Node) -> dict[str, str]:
    return dict(node.engine.snapshot()["networks"]["accepted"])


def test_two_gateways_of_one_network_the_choice_is_the_same_every_time() -> None:
    net = realm(b=(OFFICE,), c=(OFFICE,))
    a = net.nodes["a"]
    first, second = sorted(("b", "c"), key=lambda name: net.nodes[name].view.node_id)
    assert gateways_of(a) == {OFFICE: first}
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    assert len(net.nodes[first].delivered) == 1
    for number, name in enumerate((first, second), 2):  # both may answer
        pass_on(net, name, packet(HOST, a.view.ipv4, number))
    assert net.received("a") == [2, 3]
    approve(net, {second: (OFFICE,)})
    assert gateways_of(a) == {OFFICE: second}
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    assert len(net.nodes[second].delivered) == 1


def test_the_longer_prefix_wins() -> None:
    net = realm(b=("10.0.0.0/8",), c=("10.1.0.0/16",))
    a, b, c = (net.nodes[name] for name in "abc")
    for number, target in enumerate(("10.1.2.3", "10.2.2.3")):
        pass_on(net, "a", packet(a.view.ipv4, target, number))
    assert (net.received("c"), net.received("b")) == ([0], [1])
    assert not (b.plane.reasons().get("DROP_INNER_NOT_OURS") or c.plane.reasons().get("DROP_INNER_NOT_OURS"))


def test_an_own_network_is_nobody_else_s() -> None:
    """Two gateways of one network at a site: neither sends into it through the other, nor in a circle."""
    net = realm(a=(OFFICE,), b=(OFFICE, "192.168.0.0/16"))
    a = net.nodes["a"]
    assert a.routed is not None
    assert a.routed.accepted == nets("192.168.0.0/16")
    pass_on(net, "a", packet(a.view.ipv4, HOST))
    assert a.plane.reasons()["DROP_INNER_DST"] == 1


EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1", "169.254.169.254", "224.0.0.251", "255.255.255.255", "0.1.2.3", "100.64.0.200", "100.64.0.1"],
)
def test_everything_is_not_quite_everything(target: str) -> None:
    net = realm(b=EVERYTHING)
    a, b = net.nodes["a"], net.nodes["b"]
    pass_on(net, "a", packet(a.view.ipv4, "8.8.8.8"))
    assert len(b.delivered) == 1
    pass_on(net, "a", packet(a.view.ipv4, target, 2), 0.1)
    assert a.plane.reasons()["DROP_INNER_DST"] == 1
    for scope in (SCOPE_TO, numbers(a)[str(b.view.ipv4)]):
        assert owner(a, scope, target) == PEER_NONE
    assert owner(b, PEER_SELF, target) == PEER_NONE


def owner(node: Node, scope: int, address: str) -> int:
    """Peer of the longest prefix that holds `address`."""
    found = {n: peer for (s, n), (peer, _) in node.plane.networks().items() if s == scope}
    return found[max((n for n in found if ip_address(address) in n), key=lambda n: n.prefixlen)]


def test_ipv6_s_everything_is_not_ipv4_s() -> None:
    """The table holds IPv4 as ::ffff:a.b.c.d, which lies in ::/0."""
    net = realm(b=("::/0",))
    a, b = net.nodes["a"], net.nodes["b"]
    for node, scope in ((a, SCOPE_TO), (b, PEER_SELF)):
        assert node.plane.networks()[scope, IPv4Network("0.0.0.0/0")] == (PEER_NONE, 0)
    approve(net, {"b": EVERYTHING})
    for node, scope in ((a, SCOPE_TO), (b, PEER_SELF)):
        assert node.plane.networks()[scope, IPv4Network("0.0.0.0/0")][0] != PEER_NONE


@pytest.mark.parametrize("useless", ["127.0.0.0/8", "224.1.0.0/16", "100.64.0.128/25", "100.64.0.0/24", "fe80::/64"])
def test_what_is_never_part_of_a_network_is_none(useless: str) -> None:
    net = realm(b=(useless, OFFICE))
    assert gateways_of(net.nodes["a"]) == {OFFICE: "b"}
    shown = net.nodes["b"].engine.snapshot()["networks"]
    assert (shown["own"], shown["unusable"]) == ([OFFICE], [useless])


def test_a_hole_stands_before_the_network_around_it_and_goes_after_it() -> None:
    net = realm()
    a, written = net.nodes["a"], list[tuple[str, str]]()
    plane, put, remove = a.plane, a.plane.put_network, a.plane.remove_network

    def noting_put(scope: int, network: IpNetwork, *, peer: int, stream: int) -> None:
        written.append(("hole" if peer == PEER_NONE else "network", str(network)))
        put(scope, network, peer=peer, stream=stream)

    def noting_remove(scope: int, network: IpNetwork) -> None:
        written.append(("hole" if plane.networks()[scope, network][0] == PEER_NONE else "network", str(network)))
        remove(scope, network)

    a.plane.put_network, a.plane.remove_network = noting_put, noting_remove  # type: ignore[method-assign]
    approve(net, {"b": EVERYTHING})
    kinds = [kind for kind, _ in written]
    assert kinds == sorted(kinds)
    assert len(kinds) > 10
    written.clear()
    approve(net, {})
    kinds = [kind for kind, _ in written]
    assert kinds == sorted(kinds, reverse=True)
    assert len(kinds) > 10


def test_more_networks_than_the_table_holds() -> None:
    """What is too much is left out, counted, and nothing breaks."""
    many = tuple(f"{16 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24" for i in range(NETWORKS))
    net = realm(b=many)
    a = net.nodes["a"]
    assert len(a.plane.networks()) == NETWORKS
    assert a.counters["networks_full"] >= 1
