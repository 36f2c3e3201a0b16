# SPDX-License-Identifier: Apache-2.0
"""What machines are made of, without making any."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilnet.lab.journal import LabError
from veilnet.lab.topology import load, parse
from veilnet.lab.vagrant import box, hypervisor, locked
from veilnet.lab.vagrant.lab import MachineLab
from veilnet.lab.vagrant.plan import plan

HEAD = "name: t\nnodes:\n  m: {role: master}\n  a: {role: conflux}\n"


@pytest.mark.parametrize(("topology", "machines"), [("pair", 2), ("diamond", 6), ("line3", 5)])
def test_every_node_but_the_master_is_a_machine(topology: str, machines: int) -> None:
    made = plan("lab", load(topology), "box")["machines"]
    assert len(made) == machines
    assert all(machine["name"].startswith("node-") for machine in made)
    nics = [nic for machine in made for nic in machine["nics"]]
    assert len({nic["mac"] for nic in nics}) == len(nics)
    networks = [nic["network"] for nic in nics]
    assert all(networks.count(name) == 2 for name in networks)


def test_a_machine_gets_the_topologys_addresses() -> None:
    topology = load("pair")
    machine = plan("lab", topology, "box")["machines"][0]
    link = topology.link("c1", "c2")
    assert machine["nics"][0]["address"] == str(link.address("c1"))
    assert f"Address={link.address('c1')}/{link.subnet.prefixlen}\n" in machine["script"]
    assert f"Address={topology.nodes['c1'].management}/16\n" in machine["script"]
    assert "Name=u-c2\n" in machine["script"]


def test_what_machines_cannot_show_is_refused_by_name() -> None:
    rest = "  b: {role: conflux}\nlinks:\n  - {ends: [a, b], delay: 10ms}\n"
    with pytest.raises(LabError, match="a-b: the vagrant backend has no wire emulator"):
        plan("lab", parse(HEAD + rest, "t.yml"), "box")


def test_an_unknown_kernel_is_refused_with_those_on_offer() -> None:
    with pytest.raises(LabError, match=r"kernel '5\.10' is not on offer; there are: 6\.1, 6\.12"):
        box.path("5.10")


@pytest.mark.root
def test_a_missing_box_is_named_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab_name: str
) -> None:
    monkeypatch.setattr(box, "BOXES", tmp_path)
    monkeypatch.setattr(hypervisor, "require", lambda _: None)
    lab = MachineLab(lab_name, "6.12")
    with pytest.raises(LabError, match=r"no box for kernel 6\.12; build it with: lab box --kernel 6\.12"):
        lab.up("pair")
    assert not lab.directory.exists()


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hypervisor, "TOOLS", ("sh", "no-such-tool"))
    with pytest.raises(LabError, match=r"not installed: no-such-tool; `sudo ./run setup`"):
        hypervisor.require(tmp_path / "lab")


def test_a_full_disk_is_told_before_machines_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hypervisor, "TOOLS", ())
    monkeypatch.setattr(hypervisor, "DISK_FREE", 1 << 60)
    with pytest.raises(LabError, match=r"MB free, machines take .* make room there"):
        hypervisor.require(tmp_path / "lab")


def test_machines_get_what_veilnet_needs_and_no_more() -> None:
    names = locked.closure()
    assert {"cryptography", "cffi", "fastapi", "greenlet"} <= names
    assert not {"pytest", "mypy", "scapy"} & names
    lines = locked.lines(names)
    assert "cryptography==" in lines and "pytest==" not in lines
    assert lines.count("--hash=") >= len(names) - 1
