# SPDX-License-Identifier: Apache-2.0
"""An entry of the data plane that was given up doesn't get other keys at once."""

from __future__ import annotations

from tests.keyd.net import pair
from veilnet import contract as c
from veilnet.keyd.core import next_free


def test_new_stream_and_link_get_another_index() -> None:
    net = pair()
    node = net.nodes["b"]
    seen: list[tuple[int, int]] = []
    for number in range(1, 5):
        net.send("a", "b", number)
        assert net.run(30, lambda number=number: number in net.received("b"))  # type: ignore[misc]
        ((link,), (stream,)) = node.engine.links.by_index, node.engine.streams.by_index
        seen.append((link, stream))
        node.engine.links.drop(node.engine.links.by_index[link], "test")
        (other,) = net.nodes["a"].engine.links.by_index.values()
        net.nodes["a"].engine.links.drop(other, "test")
        net.run(1.0)
    assert len({link for link, _ in seen}) == len({stream for _, stream in seen}) == 4


def test_all_indices_come_round() -> None:
    assert [next_free({2, 3}, last, 6) for last in range(6)] == [1, 4, 4, 4, 5, 1]
    assert next_free(set(range(1, c.LINKS)), 17, c.LINKS) == 0
    assert next_free(set(range(1, c.LINKS)) - {9}, 17, c.LINKS) == 9
