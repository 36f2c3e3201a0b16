# SPDX-License-Identifier: Apache-2.0
"""The index that decides who is sent what, against the rule pair by pair."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_policy import TAINTS, documents
from veilnet.api.snapshots.index import DirectoryIndex, Facts
from veilnet.protocol.directory import sees
from veilnet.protocol.policy import read_policy

IDS = [bytes([number]) * 16 for number in range(1, 7)]


@st.composite
def facts(draw: st.DrawFn, node_id: bytes) -> Facts:
    granted = draw(st.frozensets(st.sampled_from(TAINTS)))
    return Facts(
        node_id,
        f"row-{node_id[0]}",
        f"n{node_id[0]}",
        draw(st.sampled_from([frozenset({"guardian"}), frozenset({"conflux"}), frozenset({"guardian", "conflux"})])),
        granted,
        granted & draw(st.frozensets(st.sampled_from(TAINTS))),
        frozenset(draw(st.frozensets(st.sampled_from(IDS), max_size=2)) - {node_id}),
    )


fleets = st.tuples(*(st.none() | facts(node_id) for node_id in IDS)).map(list)


@given(documents, fleets, fleets)
def test_sight_and_audience_are_the_rule(
    document: object, before: list[Facts | None], after: list[Facts | None]
) -> None:
    """Also after every node was replaced or removed once."""
    index = DirectoryIndex(read_policy(document))
    for old in filter(None, before):
        index.put(old)
    for node_id, node in zip(IDS, after, strict=False):
        if node is None:
            index.remove(node_id)
        else:
            index.put(node)
    live = {node.node_id: node for node in after if node is not None}
    for viewer in live.values():
        seen = {n.node_id for n in live.values() if sees(index.policy, viewer, viewer.edges, n, n.edges)}
        assert index.sight(viewer.node_id) == seen
        told = {v.node_id for v in live.values() if sees(index.policy, v, v.edges, viewer, viewer.edges)}
        assert index.audience(viewer.node_id) == told


@given(facts(IDS[0]))
def test_facts_survive_the_database(found: Facts) -> None:
    assert Facts.of(found.row_id, found.as_json(), 0, 0) == found
