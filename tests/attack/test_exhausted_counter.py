# SPDX-License-Identifier: Apache-2.0
"""A peer that never rekeys: only the initiator of a session may, and the responder's counters run on."""

from __future__ import annotations

import pytest

from tests.keyd.net import Net, pair
from veilnet import contract as c
from veilnet.keyd.rekey import Rekeying


def streaming(net: Net) -> None:
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])


def test_link_at_the_end_of_its_counter_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the engine goes on: what it can't seal must not stop its ticks."""
    net = pair()
    monkeypatch.setattr(Rekeying, "start", lambda self: None)
    streaming(net)
    node = net.nodes["b"]
    (index,) = node.engine.links.by_index
    node.plane._links[index].tx[0].counter = c.COUNTER_LIMIT - 1
    for number in range(2, 40):
        net.send("a", "b", number)
        net.run(1.0)
    assert node.counters["link_exhausted"] == 1
    assert net.received("b")[-1] == 39


def test_stream_at_the_end_of_its_counter_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    net = pair()
    monkeypatch.setattr(Rekeying, "start", lambda self: None)
    streaming(net)
    node = net.nodes["b"]
    (index,) = node.engine.streams.by_index
    node.plane._streams[index].tx[0].counter = c.COUNTER_LIMIT - 1
    net.run(5.0)
    net.send("b", "a", 7)
    assert net.run(30, lambda: net.received("a") == [7])
    assert node.counters["stream_exhausted"] == 1
