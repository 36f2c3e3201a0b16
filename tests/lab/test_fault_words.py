# SPDX-License-Identifier: Apache-2.0
"""What the words of a fault mean, and what is refused before anything is done."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilnet.lab.faults.words import Fault, LinkFault, MasterFault, NatFault, NodeFault, Undo, read
from veilnet.lab.journal import LabError
from veilnet.lab.topology.model import Burst, Direction
from veilnet.lab.topology.parse import load

TOPOLOGY = load("line3")
NATS = load("nat16")


def link(text: str) -> LinkFault:
    found = read(f"link {text}", TOPOLOGY)
    assert isinstance(found, LinkFault)
    return found


def test_links() -> None:
    assert link("c1-g1 down").senders == link("g1-c1 down").senders == ("c1", "g1")
    assert link("g1->c1 blackhole").senders == ("g1",)
    found = link("g1-g2 delay=20ms jitter=1.5ms loss=5% rate=10mbit queue=50p mtu=1400 duplicate=1% reorder=2%")
    assert found.of(Direction()) == Direction(
        delay=0.02, jitter=0.0015, loss=0.05, rate=10_000_000, queue_frames=50, mtu=1400, duplicate=0.01, reorder=0.02
    )
    assert link("g1-g2 burst=1%/20%").of(Direction(loss=0.5)) == Direction(burst=Burst(0.01, 0.2))
    assert link("g1-g2 loss=1%").of(Direction(burst=Burst(0.01, 0.2))) == Direction(loss=0.01)
    assert link("g1-g2 loss=1%").of(Direction(delay=0.1)) == Direction(delay=0.1, loss=0.01)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("node g1 kill", NodeFault("g1", "kill")),
        ("node g1 kill-daemon", NodeFault("g1", "kill-daemon")),
        ("node c2 clock=-30s", NodeFault("c2", "clock", -30)),
        ("node c2 clock=+400d", NodeFault("c2", "clock", 400 * 86400)),
        ("nat na1 rebind", NatFault("na1")),
        ("nat na1 timeout=30s", NatFault("na1", 30)),
        ("master stop", MasterFault("stop")),
        ("master lag=200ms", MasterFault("lag", 0.2)),
        ("undo", Undo()),
    ],
)
def test_the_rest(text: str, wanted: Fault) -> None:
    assert read(text, NATS if text.startswith("nat") else TOPOLOGY) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "starts with link, node, nat, master, undo"),
        ("links c1-g1 down", "starts with"),
        ("link", "link A-B down"),
        ("link c1-g1", "link A-B down"),
        ("link c1-g3 down", "no link c1-g3; links: c1-g1, g1-g2, g2-g3, g3-c2"),
        ("link c1 down", "A-B, or A->B"),
        ("link c1->g1 down", "as a whole"),
        ("link c1-g1 slow", "unknown 'slow'"),
        ("link c1-g1 down loss=1%", "unknown 'down'"),
        ("link c1-g1 loss=5", "a percentage"),
        ("link c1-g1 delay=20", "a time with its unit"),
        ("link c1-g1 mtu=20", "68 to 65535"),
        ("link c1-g1 burst=1%", "a percentage"),
        ("node g9 kill", "nodes: c1, g1, g2, g3, c2"),
        ("node master kill", "nodes: c1"),
        ("node g1 explode", "unknown 'explode'; known: kill"),
        ("node g1 clock", "unknown 'clock'"),
        ("node g1 clock=1h", "such as +1h"),
        ("nat g1 rebind", "none in this topology"),
        ("master pause", "stop|start|lag"),
        ("master lag=1", "a time with its unit"),
        ("undo all", "takes nothing"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(LabError, match=re.escape(why)):
        read(text, TOPOLOGY)


@pytest.mark.parametrize("text", ["c1-g1 jitter=5ms", "c1-g1 reorder=5%"])
def test_changes_that_contradict_what_is_there(text: str) -> None:
    with pytest.raises(LabError, match="needs a delay"):
        link(text).of(Direction())


@given(st.text(alphabet="linkodeatmsrundo cg1->=+%", max_size=40))
def test_noise_is_refused_or_understood(text: str) -> None:
    with contextlib.suppress(LabError):
        read(text, TOPOLOGY)
