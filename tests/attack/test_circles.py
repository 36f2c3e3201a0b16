# SPDX-License-Identifier: Apache-2.0
"""A member leads its circuit through the same Guardians again and again. ID8 allows it; it must end."""

from __future__ import annotations

from tests.keyd.net import Net, Node
from veilnet.keyd.stream import Stream

ROUNDS = 3
HOPS = 3 * ROUNDS + 1


def circle() -> tuple[Net, Stream]:
    """
    a ── g1 ─── g2      three times around, then to b
          └─ g3 ─┘
             └── b
    """
    edges = [("a", "g1"), ("g1", "g2"), ("g2", "g3"), ("g3", "g1"), ("g3", "b")]
    net = Net({"a": "c", "g1": "g", "g2": "g", "g3": "g", "b": "c"}, edges)
    member = net.nodes["a"]
    path = [net.nodes[name].keys.node_id for name in (*(("g1", "g2", "g3") * ROUNDS), "b")]
    member.engine.circuits.build(tuple(path))
    net.act(member, member.engine._take_actions())
    assert net.run(20, lambda: any(stream.ready for stream in member.engine.streams.by_index.values()))
    (stream,) = member.engine.streams.by_index.values()
    return net, stream


def guardians(net: Net) -> list[Node]:
    return [net.nodes[name] for name in ("g1", "g2", "g3")]


def test_each_round_costs_its_initiator_a_circuit_at_each_guardian() -> None:
    net, _ = circle()
    assert [len(node.engine.legs.by_label) for node in guardians(net)] == [ROUNDS] * 3
    net.run(1.0)
    before = net.sent
    net.send("a", "b", 1)
    assert net.run(0.1, lambda: net.received("b") == [1])
    assert net.sent - before == HOPS


def test_the_hop_budget_ends_a_frame_in_a_circle() -> None:
    net, stream = circle()
    net.nodes["a"].plane._streams[stream.index].budget = HOPS - 3
    net.send("a", "b", 1)
    net.run(0.1)
    assert net.received("b") == []
    assert sum(node.plane.reasons().get("DROP_BUDGET", 0) for node in guardians(net)) == 1


def test_a_circle_goes_away_whole() -> None:
    net, stream = circle()
    member = net.nodes["a"]
    member.engine.streams.drop(stream, "test")
    net.act(member, member.engine._take_actions())
    net.run(1.0)
    for node in net.nodes.values():
        assert not node.engine.legs.by_label
        assert not node.plane.used_labels()
        assert not node.engine.core.labels


def test_a_circle_that_is_cut_in_the_middle_goes_away_whole() -> None:
    net, _ = circle()
    g2 = net.nodes["g2"].engine
    (link,) = [link for link in g2.links.by_index.values() if link.peer == net.nodes["g3"].keys.node_id]
    g2.links.close(link, "test")
    net.act(net.nodes["g2"], g2._take_actions())
    net.run(1.0)
    assert not [leg for node in guardians(net) for leg in node.engine.legs.by_label.values()]
    assert not [label for node in guardians(net) for label in node.plane.used_labels()]
