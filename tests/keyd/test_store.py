# SPDX-License-Identifier: Apache-2.0
"""What keyd keeps in the data plane's state map goes when it is needed no more."""

from __future__ import annotations

from dataclasses import replace

from tests.keyd.net import Net, Node, pair
from veilnet.keyd.store import Kind


def peers(node: Node) -> list[int]:
    return [index for kind, index in node.plane.load_states() if kind == Kind.PEER]


def joined(net: Net, number: int) -> None:
    """A directory in which everybody but a and b has been replaced by newcomers."""
    held = {node.view.node_id: node.view for node in net.nodes.values()}
    template = net.nodes["b"].view
    for fresh in range(50):
        node_id = (number * 50 + fresh + 1).to_bytes(16, "big")
        address = template.ipv4 + 1000 + fresh
        held[node_id] = replace(template, node_id=node_id, name=f"n{number}x{fresh}", ipv4=address)
    net.directory = replace(net.directory, version=number + 2, nodes=held)
    for node in net.nodes.values():
        net.act(node, node.engine.set_directory(net.directory, net.now))


def test_nodes_that_come_and_go_leave_nothing() -> None:
    net = pair()
    net.send("a", "b", 1)
    assert net.run(5, lambda: net.received("b") == [1])
    a = net.nodes["a"]
    before = len(a.plane.load_states())
    for number in range(20):
        joined(net, number)
        net.run(2)
    assert len(a.plane.load_states()) == before
    assert len(a.engine.peers._numbers) == len(a.engine.peers._nodes) <= 51
    net.send("a", "b", 2)
    assert net.run(5, lambda: net.received("b") == [1, 2])


def test_a_peer_is_recorded_as_long_as_it_has_a_stream() -> None:
    net = pair(realm_settings={"stream_idle": 5, "link_idle": 5})
    assert peers(net.nodes["a"]) == []
    net.send("a", "b", 1)
    assert net.run(5, lambda: net.received("b") == [1])
    assert [len(peers(node)) for node in net.nodes.values()] == [1, 1]
    net.run(60)
    assert [node.plane.load_states() for node in net.nodes.values()] == [{}, {}]


def test_a_number_that_was_forgotten_is_not_given_again() -> None:
    net = pair()
    joined(net, 0)
    seen = set(net.nodes["a"].engine.peers._nodes)
    for number in range(1, 5):
        joined(net, number)
        net.run(2)
        fresh = set(net.nodes["a"].engine.peers._nodes)
        assert len(fresh & seen) == 1  # b's
        seen |= fresh
