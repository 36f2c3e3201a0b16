# SPDX-License-Identifier: Apache-2.0
"""Path choice over drawn topologies."""

from __future__ import annotations

from tests.keyd.net import Net, diamond, line3, pair
from veilnet.protocol.paths import choose_path


def names(net: Net, src: str, dst: str, *, least: int = 2, failed: dict[str, float] | None = None) -> list[str] | None:
    ids = {name: node.view.node_id for name, node in net.nodes.items()}
    penalties = {ids[name]: weight for name, weight in (failed or {}).items()}
    path = choose_path(net.directory, ids[src], ids[dst], min_guardians=least, penalties=penalties)
    back = {node_id: name for name, node_id in ids.items()}
    return None if path is None else [back[node] for node in path]


def test_line_is_taken_whole_and_never_to_oneself() -> None:
    net = line3()
    assert names(net, "a", "b") == ["g1", "g2", "g3", "b"]
    assert names(net, "b", "a") == ["g3", "g2", "g1", "a"]
    assert names(net, "a", "a") is None


def test_less_guardians_than_asked_for_where_there_are_no_more() -> None:
    assert names(pair(), "a", "b") == ["b"]


def test_longer_way_for_the_sake_of_guardians() -> None:
    net = Net(
        {"a": "c", "b": "c", "g1": "g", "g2": "g"}, [("a", "b"), ("a", "g1"), ("g1", "g2"), ("g2", "b"), ("g1", "b")]
    )
    assert names(net, "a", "b", least=0) == ["b"]
    assert names(net, "a", "b", least=1) == ["g1", "b"]
    assert names(net, "a", "b", least=2) == ["g1", "g2", "b"]
    assert names(net, "a", "b", least=5) == ["g1", "g2", "b"]


def test_a_conflux_is_never_in_between() -> None:
    assert names(Net({"a": "c", "m": "c", "b": "c"}, [("a", "m"), ("m", "b")]), "a", "b") is None


def test_failed_guardian_is_avoided_where_possible() -> None:
    net = diamond()
    for dead, other in (("g2", "g3"), ("g3", "g2")):
        assert names(net, "a", "b", failed={dead: 1.0}) == ["g1", other, "g4", "b"]
        assert names(net, "a", "b", failed={dead: 0.5, "g4": 0.5}) == ["g1", other, "g4", "b"]
    assert names(line3(), "a", "b", failed={"g2": 1.0}) == ["g1", "g2", "g3", "b"]


def test_ties_go_by_the_pair_and_are_stable() -> None:
    chosen = set()
    for seed in range(12):
        net = diamond(seed=seed)
        path = names(net, "a", "b")
        assert path == names(net, "a", "b")
        chosen.add(tuple(path or ()))
    assert len(chosen) == 2, "different pairs spread over equal paths"
