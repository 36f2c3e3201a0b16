# SPDX-License-Identifier: Apache-2.0
"""How long traffic stands still when a Guardian dies, or comes back without its state. Seconds as shipped."""

from __future__ import annotations

import pytest

from tests.keyd.net import Net, diamond, line3
from veilnet.keyd.core import Settings

REAL = Settings()
RATE = 10
"""Packets a second."""


def outage(net: Net, src: str, dst: str, numbers: range) -> float:
    """Longest run of lost packets, in seconds."""
    got, longest, run = set(net.received(dst)), 0, 0
    for number in numbers:
        run = 0 if number in got else run + 1
        longest = max(longest, run)
    return longest / RATE


def on_path(net: Net) -> str:
    """Which of the two Guardians in the middle of a diamond carries the stream: its initiator knows."""
    paths = [row["path"] for name in "ab" for row in net.nodes[name].engine.snapshot()["streams"]]
    return next(name for path in paths if path for name in ("g2", "g3") if name in path)


def lose_state(net: Net, name: str) -> None:
    """As after a power failure: data plane empty, key daemon new."""
    node = net.nodes[name]
    node.plane.__init__(node.plane.knock_port)  # type: ignore[misc]
    node.down = False
    node.boot(net)


@pytest.mark.parametrize("way", ["both ways", "one way", "against the initiator"])
@pytest.mark.parametrize("seed", range(4))
def test_a_flow_goes_around_a_dead_guardian(seed: int, way: str) -> None:
    net = diamond(settings=REAL, seed=seed)
    if way == "against the initiator":
        net.send("b", "a", 1000)
        net.run(1)
    sent = net.flow("a", "b", count=60 * RATE, every=1 / RATE)
    if way == "both ways":
        net.flow("b", "a", count=60 * RATE, every=1 / RATE)
    net.run(10.03)
    net.nodes[on_path(net)].down = True
    net.run(60)
    assert 2 <= outage(net, "a", "b", sent) <= 8


@pytest.mark.parametrize("seed", range(4))
def test_two_guardians_die_one_after_the_other(seed: int) -> None:
    """The scenario `guardian-dies` of the lab."""
    net = diamond(settings=REAL, seed=seed)
    sent = net.flow("a", "b", count=34 * RATE, every=1 / RATE)
    net.run(5.03)
    net.nodes["g2"].down = True
    net.run(7)
    lose_state(net, "g2")
    net.run(10)
    net.nodes["g3"].down = True
    net.run(13)
    assert 2 <= outage(net, "a", "b", sent) <= 10
    assert sent[-1] in net.received("b")


def test_a_flow_goes_on_through_a_guardian_that_restarted() -> None:
    net = line3(settings=REAL)
    sent = net.flow("a", "b", count=60 * RATE, every=1 / RATE)
    net.run(10.03)
    lose_state(net, "g2")
    net.run(60)
    assert 2 <= outage(net, "a", "b", sent) <= 8


@pytest.mark.parametrize("name", ["g1", "g2", "g3", "b"])
def test_a_ping_goes_through_a_node_that_restarted(name: str) -> None:
    net = line3(settings=REAL)
    found: list[bool] = []
    net.act(net.nodes["a"], net.nodes["a"].engine.ping("b", net.now, lambda ok, _: found.append(ok)))
    net.run(3)
    assert found == [True]
    lose_state(net, name)
    start = net.now
    net.act(net.nodes["a"], net.nodes["a"].engine.ping("b", net.now, lambda ok, _: found.append(ok)))
    net.run(40, lambda: len(found) == 2)
    assert found[1] and net.now - start < 6


def test_a_peer_whose_daemon_is_down_keeps_its_stream_and_is_asked_for_another_in_vain() -> None:
    net = diamond(settings=REAL)
    sent = net.flow("a", "b", count=60 * RATE, every=1 / RATE)
    net.run(10.03)
    net.nodes["b"].stopped = True
    net.run(20)
    assert net.nodes["a"].counters["stream_detour"] >= 1
    net.nodes["b"].boot(net)
    net.run(40)
    assert net.received("b") == list(sent)


def test_a_healthy_flow_one_way_makes_no_second_stream() -> None:
    net = diamond(settings=REAL)
    sent = net.flow("a", "b", count=120 * RATE, every=1 / RATE)
    net.run(130)
    assert net.received("b") == list(sent)
    assert "stream_detour" not in net.nodes["a"].counters
