# SPDX-License-Identifier: Apache-2.0
"""A host's wall clock is set: what runs goes on, because only signed times and the slots of knocks follow it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.keyd.net import FAST, Net, line3

HOUR = 3600.0


def up(name: str) -> Net:
    net = line3(settings=replace(FAST, rekey_interval=4.0))
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    net.run(1.0)
    return net


def jump(net: Net, name: str, seconds: float) -> None:
    node = net.nodes[name]
    net.act(node, node.engine.set_clock(net.now, net.now + seconds))


@pytest.mark.parametrize("seconds", [-24 * HOUR, -HOUR, -10.0, 10.0, HOUR, 24 * HOUR])
@pytest.mark.parametrize("name", ["a", "g2", "b"])
def test_running_sessions_flow_and_rekey_through_a_jump_and_back(name: str, seconds: float) -> None:
    net = up(name)
    node = net.nodes[name]
    before = dict(node.counters)
    numbers = [0, *net.flow("a", "b", count=160, every=0.25, first=1)]
    net.run(3.0)
    jump(net, name, seconds)
    net.run(20.0)
    jump(net, name, 0.0)
    net.run(20.0)
    assert net.received("b") == numbers
    after = node.counters
    assert after["rekeyed"] - before.get("rekeyed", 0) >= 8
    ended = {what for what in after if what.startswith(("link_", "stream_", "circuit_", "leg_"))}
    assert ended - before.keys() == set()


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_a_node_whose_clock_was_wrong_is_met_again_once_it_is_right(seconds: float) -> None:
    net = line3()
    jump(net, "b", seconds)
    net.send("a", "b", 1)
    net.run(40.0)
    assert net.received("b") == []
    jump(net, "b", 0.0)
    assert net.run(60.0, lambda: net.received("b") == [1]), "it has waited"
    net.send("a", "b", 2)
    assert net.run(1.0, lambda: net.received("b") == [1, 2])


def test_a_jump_past_the_end_of_all_documents_ends_what_runs() -> None:
    """Signed ends are judged by the clock there is; `Replica.floor` keeps it from going back below signed times."""
    net = up("g2")
    jump(net, "g2", 2e7)
    net.run(2.0)
    assert not net.nodes["g2"].engine.links.by_index
    assert net.nodes["g2"].counters["link_peer_gone"] == 2
