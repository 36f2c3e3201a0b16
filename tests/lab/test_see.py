# SPDX-License-Identifier: Apache-2.0
"""`lab top` and `lab pcap`: rates from two readings; where tcpdump listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.see import pcap_command, rate_tables


def test_rates_are_differences_over_the_time_between() -> None:
    before = {"at": {"ns": 0}, "link a->b": {"frames": 10, "bits": 0, "loss": 0}, "node g1": {"DROP_LABEL": 5}}
    now = {
        "at": {"ns": 2_000_000_000},
        "link a->b": {"frames": 30, "bits": 4_000_000, "loss": 6},
        "node g1": {"DROP_LABEL": 9},
    }
    links, members = rate_tables(before, now)
    assert [list(column.cells) for column in links.columns] == [["a->b"], ["10"], ["2.00"], ["loss 3"]]
    assert [list(column.cells) for column in members.columns] == [["g1"], ["0"], ["DROP_LABEL 2"]]
    Console(quiet=True).print(links, members)


def test_a_node_that_does_not_answer_is_listed_and_links_without_wires_say_why_they_are_not() -> None:
    links, members = rate_tables({"at": {"ns": 0}}, {"at": {"ns": 1_000_000_000}, "node g1": {}})
    assert [list(column.cells) for column in members.columns] == [["g1"], ["no answer"], [""]]
    assert "--wires" in str(links.caption)


@pytest.mark.lab
@pytest.mark.root
def test_pcap_listens_behind_the_wire_or_at_the_nic(make_lab: Callable[[str], Lab]) -> None:
    lab = make_lab("pair")
    command = pcap_command(lab, "c1-c2", Path("x.pcap"))
    assert f"--net=/run/netns/{lab.namespace('c2')}" in command
    assert command[command.index("-i") + 1] == "u-c1"
    with pytest.raises(LabError, match="no link c1-c9; links: c1-c2"):
        pcap_command(lab, "c1-c9", None)
