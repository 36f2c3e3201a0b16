# SPDX-License-Identifier: Apache-2.0
"""A Guardian that is being drained: nothing new goes through it, nothing that goes through it stops (CI6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.keyd.net import FAST, Net, diamond, line3
from veilnet.keyd.circuits import Circuit
from veilnet.protocol.directory import Directory
from veilnet.protocol.paths import choose_path

IDLE = replace(FAST, stream_idle=3.0)


def drained(net: Net, *names: str) -> Directory:
    nodes = {node_id: replace(view, draining=view.name in names) for node_id, view in net.directory.nodes.items()}
    return replace(net.directory, nodes=nodes)


def tell(net: Net, directory: Directory, *to: str) -> None:
    for name in to or net.nodes:
        net.act(net.nodes[name], net.nodes[name].engine.set_directory(directory, net.now))


def way(net: Net, src: str = "a") -> list[str] | None:
    """Names of the path of the only stream."""
    streams = [stream for stream in net.nodes[src].engine.streams.by_index.values() if stream.ready]
    if not streams:
        return None
    (carrier,) = [stream.carrier for stream in streams]
    assert isinstance(carrier, Circuit)
    return [net.directory.nodes[node].name for node in carrier.path]


def middle(net: Net) -> str:
    found = way(net)
    assert found is not None
    return found[1]


def test_path_choice_goes_around_a_drained_guardian_and_through_none() -> None:
    net = diamond()
    ids = {view.name: node_id for node_id, view in net.directory.nodes.items()}
    for out, other in (("g2", "g3"), ("g3", "g2")):
        path = choose_path(drained(net, out), ids["a"], ids["b"])
        assert path is not None and ids[out] not in path and ids[other] in path
    for hopeless in (("g2", "g3"), ("g1",), ("g4",)):
        assert choose_path(drained(net, *hopeless), ids["a"], ids["b"]) is None
    assert choose_path(drained(net, "g4"), ids["a"], ids["g4"]) is not None, "it may be where a circuit ends"
    assert choose_path(drained(net, "a", "b"), ids["a"], ids["b"]) is not None, "the ends relay nothing"


@pytest.mark.parametrize("seed", range(4))
def test_what_runs_goes_on_and_the_next_goes_around(seed: int) -> None:
    net = diamond(seed=seed, settings=IDLE)
    net.send("a", "b", 0)
    assert net.run(5, lambda: net.received("b") == [0])
    used = middle(net)
    tell(net, drained(net, used))
    sent = net.flow("a", "b", count=200, every=0.1, first=1)
    net.run(20.5)
    assert net.received("b") == [0, *sent] and middle(net) == used, "20 s of traffic, none lost, none moved"
    assert net.run(30, lambda: way(net) is None), "it goes when it is idle"
    net.send("a", "b", 999)
    assert net.run(5, lambda: 999 in net.received("b"))
    assert middle(net) != used
    assert not net.nodes[used].engine.legs.by_label or net.run(30, lambda: not net.nodes[used].engine.legs.by_label)


def test_without_another_way_nothing_new_comes_up_until_it_serves_again() -> None:
    net = line3(settings=IDLE)
    tell(net, drained(net, "g2"))
    net.send("a", "b", 0)
    net.run(10)
    assert net.received("b") == [] and net.nodes["a"].counters["stream_no_path"] >= 1
    tell(net, drained(net))
    net.send("a", "b", 1)
    assert net.run(40, lambda: 1 in net.received("b"))


@pytest.mark.parametrize("out", ["g2", "g3"])
def test_the_guardian_refuses_who_does_not_know_yet_and_the_blame_is_its_own(out: str) -> None:
    """Only the Guardian has the new record: it says so, and the initiator takes the other way at once."""
    net = diamond(settings=IDLE)
    tell(net, drained(net, out), out)
    net.send("a", "b", 0)
    assert net.run(10, lambda: net.received("b") == [0])
    assert middle(net) != out
    blamed = {event.fields["blamed"] for event in net.nodes["a"].events
              if getattr(event, "name", "") == "circuit_down"}  # fmt: skip
    assert blamed <= {out}, "the next node is not at fault"


@pytest.mark.parametrize("delay", [0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08])
def test_a_circuit_that_is_being_built_when_the_drain_comes_ends_up_whole(delay: float) -> None:
    net = diamond(settings=IDLE)
    net.send("a", "b", 0)
    net.run(delay)
    tell(net, drained(net, "g2"))
    assert net.run(20, lambda: net.received("b") == [0])
    assert way(net) is not None
