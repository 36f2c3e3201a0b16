# SPDX-License-Identifier: Apache-2.0
"""Two hundred nodes on one Master's channel: in time, in memory, and every one of them hears of a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from veilnet.lab import processes
from veilnet.lab.fleet import REALM, Fleet
from veilnet.lab.lab import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.soak,
]

SECONDS = 120
MEMORY = 6 << 30


def memory(lab: Lab) -> int:
    """Bytes that the lab's processes hold for themselves, shared pages by their share."""
    inodes = {number for name in ("mgmt", "light", "master") if (number := processes.inode(lab.namespace(name)))}
    lines = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in processes.inside(inodes)]
    return sum(int(text.partition("Pss:")[2].split()[0]) << 10 for text in lines)


def test_two_hundred_nodes(make_fleet: Callable[[str], Fleet]) -> None:
    start = time.monotonic()
    fleet = make_fleet("fleet200")
    took, held = time.monotonic() - start, memory(fleet.lab)
    print(f"{took:.1f} s, {held / 2**20:.0f} MiB")
    assert took < SECONDS
    assert held < MEMORY
    facts = fleet.light()
    assert sum(row["connected"] for row in facts) == 200
    assert not any(row["errors"] for row in facts)
    before = max(row["lowest"] for row in facts)
    with fleet.administrator() as admin:
        admin.make_edges(REALM, (("n1", "n2"), ("n2", "n200")))
    end = time.monotonic() + 60
    while min(row["lowest"] for row in fleet.light()) <= before:
        assert time.monotonic() < end, "not every node has the snapshot after the change"
        time.sleep(0.5)
