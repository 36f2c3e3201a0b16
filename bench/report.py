# SPDX-License-Identifier: Apache-2.0
"""One figure of ours beside its peers, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import TypedDict


class Row(TypedDict):
    """`ours` and `peers` in `unit`; `ratio` is ours / peer. A figure that could not be had is absent, never 0."""

    row: str
    unit: str
    ours: float | None
    peers: dict[str, float]
    ratio: dict[str, float]


def row(name: str, unit: str, ours: float | None, peers: Mapping[str, float] | None = None) -> Row:
    known = dict(peers or {})
    ratio = {peer: round(ours / value, 3) for peer, value in known.items() if ours is not None and value}
    return {"row": name, "unit": unit, "ours": ours, "peers": known, "ratio": ratio}


def middle(runs: int, measure: Callable[[], float]) -> float:
    """Median of `runs` measurements."""
    return median(measure() for _ in range(runs))


def table(rows: list[Row]) -> str:
    """GitHub Markdown: one line per row, each peer with its figure and the ratio ours / peer."""
    lines = ["| row | unit | ours | peers (ours / peer) |", "|---|---|---|---|"]
    for entry in rows:
        peers = ", ".join(
            f"{name} {value:.4g}" + (f" ({entry['ratio'][name]:.2f})" if name in entry["ratio"] else "")
            for name, value in entry["peers"].items()
        )
        ours = "not measured" if entry["ours"] is None else f"{entry['ours']:.4g}"
        lines.append(f"| {entry['row']} | {entry['unit']} | {ours} | {peers} |")
    return "\n".join(lines)
