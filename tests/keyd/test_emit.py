# SPDX-License-Identifier: Apache-2.0
"""The emit way: redirect only after a probe has come back, TC as long as none has, and again when they stop."""

from __future__ import annotations

from tests.keyd.net import Net
from veilnet.keyd.emit import PROBE_AGAIN, PROBE_RETRY

NODES = {"a": "c", "g": "g", "b": "c"}
EDGES = [("a", "g"), ("g", "b")]


def connected(net: Net) -> None:
    net.send("a", "b", 1)
    net.run(5.0)


def test_redirect_after_an_answered_probe() -> None:
    net = Net(NODES, EDGES)
    assert not net.nodes["a"].plane.redirect
    connected(net)
    assert net.nodes["a"].plane.redirect
    assert net.nodes["b"].plane.redirect


def test_tc_where_redirected_frames_vanish() -> None:
    net = Net(NODES, EDGES)
    net.nodes["a"].redirects = False
    connected(net)
    assert not net.nodes["a"].plane.redirect
    assert net.nodes["b"].plane.redirect


def test_back_to_tc_when_redirect_stops_to_deliver_and_forth_again() -> None:
    net = Net(NODES, EDGES)
    connected(net)
    net.nodes["a"].redirects = False
    net.run(PROBE_AGAIN * 1.2 + 10)
    assert not net.nodes["a"].plane.redirect
    net.nodes["a"].redirects = True
    net.run(PROBE_RETRY * 1.2 + 10)
    assert net.nodes["a"].plane.redirect


def test_a_guardian_never_probes() -> None:
    net = Net(NODES, EDGES)
    connected(net)
    assert not net.nodes["g"].plane.redirect
