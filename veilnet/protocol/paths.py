# SPDX-License-Identifier: Apache-2.0
"""Path choice over the directory's topology: which Guardians a circuit goes through.

Pure: the same directory, ends and penalties give the same path. Edges are undirected; every node between the ends is a
Guardian that is not being drained; no node is passed twice.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from typing import Final

from veilnet.protocol.directory import Directory, NodeView

MAX_GUARDIANS: Final = 6
MAX_VISITS: Final = 20_000
"""Partial paths looked at before the best one so far is taken: bounds the search in dense topologies."""
PENALTY_COST: Final = 100.0
"""A node that failed recently costs as much as this many hops: avoided wherever there is another way."""

Path = tuple[bytes, ...]


def choose_path(
    directory: Directory,
    src: bytes,
    dst: bytes,
    *,
    min_guardians: int = 2,
    penalties: Mapping[bytes, float] | None = None,
) -> Path | None:
    """Node ids from the first hop to `dst` inclusive, without `src`; None if the topology connects them in no way.

    The cheapest path with at least `min_guardians` Guardians between the ends; if there is none, the cheapest of those
    with the most Guardians. Ties go by a hash of (src, dst, node), so that different pairs spread over equal paths.
    `penalties`: node id → number of recent failures, 0 to 1 and above.
    """
    if src == dst or src not in directory.nodes or dst not in directory.nodes:
        return None
    best_short: Path | None = None
    heap: list[tuple[float, int, Path]] = [(0.0, 0, (src,))]
    visits = 0
    while heap and visits < MAX_VISITS:
        visits += 1
        cost, tie, path = heapq.heappop(heap)
        if path[-1] == dst:
            guardians = len(path) - 2
            if guardians >= min_guardians:
                return path[1:]
            if best_short is None or guardians > len(best_short) - 2:
                best_short = path
            continue
        for node in _steps(directory, path, dst):
            failed = (penalties or {}).get(node, 0.0) if node != dst else 0.0
            heapq.heappush(heap, (cost + 1 + PENALTY_COST * failed, tie + _tie(src, dst, node), (*path, node)))
    return best_short[1:] if best_short else None


def _steps(directory: Directory, path: Path, dst: bytes) -> list[bytes]:
    """Neighbours that may follow: the destination, or a Guardian not yet passed while there is room for one more."""
    room = len(path) - 1 < MAX_GUARDIANS
    return [
        node
        for node in directory.neighbours(path[-1])
        if node not in path and (node == dst or (room and _relays(directory.nodes[node])))
    ]


def _relays(node: NodeView) -> bool:
    # CI6
    return "guardian" in node.roles and not node.draining


def _tie(src: bytes, dst: bytes, node: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"veilnet path\0" + src + dst + node).digest()[:6], "big")
