# SPDX-License-Identifier: Apache-2.0
"""Members that keep no rule: they dial without an edge, open streams against the policy, lead circuits in circles.

Each hostile node has a directory of its own making, in which it may do what it does; the others have the signed one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.keyd.net import Net, line3
from veilnet.keyd.core import Underlay
from veilnet.keyd.state import Leg as LegState
from veilnet.keyd.stream import host_network
from veilnet.protocol.directory import Directory
from veilnet.protocol.messages import Extend, Refusal, Refused
from veilnet.protocol.policy import read_policy

DENY = read_policy({"rules": [{"name": "apart", "effect": "deny", "between": ["*"], "and": ["*"]}]})


def give(net: Net, name: str, directory: Directory) -> None:
    net.act(net.nodes[name], net.nodes[name].engine.set_directory(directory, net.now))


def reaches_all(net: Net, name: str) -> None:
    """Its NIC leads everywhere, as on the internet."""
    node = net.nodes[name]
    nics = tuple(replace(nic, default=True) for nic in node.underlay.nics)
    net.act(node, node.engine.set_underlay(Underlay(nics, node.underlay.knock_port), net.now))


def with_edge(net: Net, one: str, other: str) -> Directory:
    edge = frozenset(net.nodes[name].keys.node_id for name in (one, other))
    return replace(net.directory, edges=net.directory.edges | {edge})


def tainted(net: Net, **taints: str) -> Directory:
    """The directory with these nodes' taints, granted and worn."""
    nodes = dict(net.directory.nodes)
    for name, text in taints.items():
        view, found = net.nodes[name].view, frozenset(text.split())
        nodes[view.node_id] = replace(view, taints=found, worn=found)
    return replace(net.directory, nodes=nodes)


@pytest.mark.parametrize("target", ["g2", "b"])
def test_knock_without_an_edge_is_met_with_silence(target: str) -> None:
    net = line3()
    hostile, victim = net.nodes["a"], net.nodes[target]
    reaches_all(net, "a")
    reaches_all(net, target)
    give(net, "a", with_edge(net, "a", target))
    heard: list[str] = []
    net.mangle = lambda name, payload: heard.append(name) or payload  # type: ignore[func-returns-value]
    assert hostile.engine.links._dial(victim.keys.node_id)
    net.act(hostile, hostile.engine._take_actions())
    net.run(25)
    assert target in heard
    # hello B is answered without knowing who asks; hello A, that names the asker, never is
    assert hostile.counters["link_timeout"] == 1
    assert not victim.engine.links.by_index
    assert victim.counters["refused_no_edge"] > 0
    assert "remote_peer" in victim.counters


def test_honest_node_does_not_dial_without_an_edge() -> None:
    net = line3()
    node = net.nodes["a"]
    reaches_all(net, "a")
    assert not node.engine.links._dial(net.nodes["g2"].keys.node_id)
    assert node.counters["dial_no_edge"] == 1


def test_link_ends_at_both_ends_when_its_edge_goes() -> None:
    net = line3()
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
    edge = frozenset(net.nodes[name].keys.node_id for name in ("a", "g1"))
    give(net, "g1", replace(net.directory, edges=net.directory.edges - {edge}))
    net.run(2)
    assert not [
        link for link in net.nodes["g1"].engine.links.by_index.values() if link.peer == net.nodes["a"].keys.node_id
    ]
    assert not net.nodes["a"].engine.links.by_index
    assert net.nodes["g1"].counters["link_edge_gone"] == 1


@pytest.mark.parametrize("why", ["rule", "taints"])
def test_stream_against_the_policy_is_met_with_silence(why: str) -> None:
    net = line3()
    real = replace(net.directory, policy=DENY) if why == "rule" else tainted(net, a="dev", b="eu")
    for name in ("g1", "g2", "g3", "b"):
        give(net, name, real)
    net.send("a", "b", 1)
    net.run(40)
    victim = net.nodes["b"]
    assert net.received("b") == []
    assert victim.counters["refused_policy"] > 0
    assert not victim.engine.streams.by_index
    assert victim.counters.get("stream_crowded", 0) == 0


def test_honest_node_does_not_open_a_stream_against_the_policy() -> None:
    net = line3()
    for name in net.nodes:
        give(net, name, replace(net.directory, policy=DENY))
    answers: list[bool] = []
    node = net.nodes["a"]
    net.act(node, node.engine.ping("b", net.now, lambda answered, seconds: answers.append(answered)))
    net.send("a", "b", 1)
    net.run(5)
    assert answers == [False]
    assert not node.engine.links.by_index, "not even a link is made for it"
    assert node.counters["dial_policy"] >= 1
    own = {host_network(node.view.ipv4), host_network(node.view.ipv6)}
    assert node.plane.routes().keys() == own


@pytest.mark.parametrize("enforcer", ["a", "b"])
def test_running_stream_ends_when_either_end_learns_of_the_policy(enforcer: str) -> None:
    net = line3()
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
    give(net, enforcer, replace(net.directory, policy=DENY))
    net.run(1)
    assert not net.nodes["a"].engine.streams.by_index
    assert not net.nodes["b"].engine.streams.by_index
    assert net.nodes[enforcer].counters["stream_policy"] == 1


def test_narrowing_alone_ends_a_stream() -> None:
    net = line3()
    both = tainted(net, a="dev", b="dev")
    for name in net.nodes:
        give(net, name, both)
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
    view = both.nodes[net.nodes["a"].keys.node_id]
    give(net, "b", replace(both, nodes={**both.nodes, view.node_id: replace(view, worn=frozenset())}))
    net.run(1)
    assert not net.nodes["b"].engine.streams.by_index


@pytest.mark.parametrize(("target", "refusal"), [("g2", Refusal.POLICY), ("g1", Refusal.POLICY), ("b", Refusal.POLICY)])
def test_circuit_is_not_led_to_self_back_or_to_no_neighbour(target: str, refusal: Refusal) -> None:
    """At g2, asked by g1: itself, the node it came from, a node without an edge. A longer circle can't be told apart
    from two circuits, as relays share no name for a circuit."""
    net = line3()
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
    guardian = net.nodes["g2"]
    leg = next(iter(guardian.engine.legs.by_label.values()))
    leg.state = LegState.LOCAL
    answers: list[object] = []
    guardian.engine.legs._extend(leg, Extend(999, leg.label, net.nodes[target].keys.node_id), answers.append, hop=True)
    assert answers == [Refused(999, refusal)]
