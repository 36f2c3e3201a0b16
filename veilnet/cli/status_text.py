# SPDX-License-Identifier: Apache-2.0
"""A node's status as lines for people. Everything is in `--json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

ROWS_MAX: Final = 20
LIST_MAX: Final = 8
_COUNTERS: Final = {"counters", "data_plane"}
_COLUMNS: Final = {
    "links": ("peer", "state", "remote", "mtu", "circuits", "rtt_ms"),
    "legs": ("previous", "next", "state"),
    "streams": ("peer", "up", "path", "rtt_ms"),
}


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """A line a value; below links, legs and streams a line each. Counters that are 0 are left out."""
    for key, value in status.items():
        if key in _COUNTERS:
            yield f"{key}: {_brief({name: count for name, count in value.items() if count})}"
        elif key in _COLUMNS:
            yield f"{key}: {len(value)}"
            yield from _rows(value, _COLUMNS[key])
        else:
            yield f"{key}: {_brief(value)}"


def _rows(rows: list[Mapping[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    for row in rows[:ROWS_MAX]:
        yield "  " + ", ".join(f"{column} {_brief(row.get(column))}" for column in columns)
    if len(rows) > ROWS_MAX:
        yield f"  and {len(rows) - ROWS_MAX} more: --json shows all"


def _brief(value: Any) -> str:
    """One line: counts instead of long lists."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        plain = all(isinstance(item, str) for item in value)
        return ",".join(value) if value and plain and len(value) <= LIST_MAX else str(len(value))
    if isinstance(value, float):
        return f"{value:.3f}"
    return "none" if value is None else str(value)
