# SPDX-License-Identifier: Apache-2.0
"""How soon a node that is gone is noticed, and what is no reason to give it up."""

from __future__ import annotations

from tests.keyd.net import Net, line3, pair
from veilnet.keyd.core import Settings

REAL = Settings()
"""As shipped: ticks of 1 s, pings of 10 s."""


def flowing(net: Net, seconds: float, *, both: bool) -> None:
    net.flow("a", "b", count=int(seconds * 10), every=0.1)
    if both:
        net.flow("b", "a", count=int(seconds * 10), every=0.1)


def until_dropped(net: Net, name: str, reason: str, limit: float) -> float:
    start = net.now
    assert net.run(limit, lambda: net.nodes[name].counters.get(reason, 0) > 0)
    return net.now - start


def test_a_neighbour_that_dies_in_a_flow_both_ways_is_noticed_in_seconds() -> None:
    net = pair(settings=REAL)
    flowing(net, 60, both=True)
    net.run(20)
    net.nodes["b"].down = True
    assert until_dropped(net, "a", "link_dead", 40) <= 8


def test_a_relay_notices_too() -> None:
    net = line3(settings=REAL)
    flowing(net, 60, both=True)
    net.run(20)
    net.nodes["g2"].down = True
    assert until_dropped(net, "g1", "link_dead", 40) <= 8


def test_an_idle_link_keeps_its_long_patience() -> None:
    net = pair(settings=REAL)
    flowing(net, 5, both=True)
    net.run(20)
    sent = net.sent
    net.run(60)
    assert net.sent - sent <= 3 * 2 * 2 * 65 / REAL.ping_interval  # link, stream, emit; each side; there and back
    net.nodes["b"].down = True
    assert 20 <= until_dropped(net, "a", "link_dead", 60) <= 31


def test_a_daemon_that_is_down_breaks_no_flow() -> None:
    for both in (True, False):
        net = pair(settings=REAL)
        flowing(net, 60, both=both)
        net.run(20)
        net.nodes["b"].stopped = True
        net.run(20)
        net.nodes["b"].boot(net)
        net.run(20)
        assert net.received("b") == list(range(600))
        assert all(
            "link_dead" not in node.counters and "stream_dead" not in node.counters for node in net.nodes.values()
        )


def test_a_flow_that_becomes_one_way_goes_on() -> None:
    net = pair(settings=REAL)
    net.flow("a", "b", count=900, every=0.1)
    net.flow("b", "a", count=200, every=0.1)
    net.run(100)
    assert net.received("b") == list(range(900))
    assert all("link_dead" not in node.counters for node in net.nodes.values())


def test_loss_is_not_death() -> None:
    net = pair(settings=REAL)
    net.run(1)
    flowing(net, 300, both=True)
    net.run(10)
    net.wire.loss = 0.2
    net.run(300)
    assert all("link_dead" not in node.counters for node in net.nodes.values())
