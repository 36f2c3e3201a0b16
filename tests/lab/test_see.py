# SPDX-License-Identifier: Apache-2.0
"""`lab top` and `lab pcap`: rates from two readings; where tcpdump listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.named import any_fleet, namespace_fleet
from veilnet.lab.see import pcap_command, rate_tables, status_table
from veilnet.lab.topology import read
from veilnet.lab.vagrant.lab import MachineLab


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


@pytest.mark.root
def test_status_of_a_lab_of_machines_names_machines(lab_name: str) -> None:
    lab = MachineLab(lab_name)
    lab.journal.create()
    try:
        text, _ = read("pair")
        (lab.directory / "topology.yml").write_text(text)
        (lab.directory / "options.json").write_text('{"faultable": false, "seed": 1}')
        (lab.directory / "plan.json").touch()
        table = status_table(any_fleet(lab_name))
        where, daemons = ([*table.columns[index].cells] for index in (2, 3))
        assert where == [lab.namespace("master"), "machine 10.76.0.2", "machine 10.76.0.3"]
        assert daemons == ["none", *["none, or the machine does not answer"] * 2]
        assert lab.shell("c1")[-2:] == ["-t", "node-c1"]
        with pytest.raises(LabError, match="is of machines; pcap is for labs of namespaces"):
            namespace_fleet(lab_name, "pcap is")
    finally:
        lab.down()
