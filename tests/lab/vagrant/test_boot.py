# SPDX-License-Identifier: Apache-2.0
"""Machines for real, one pair for each kernel whose box is built: VEILNET_SOAK=1, minutes each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from veilnet.lab.net import NETNS_DIR
from veilnet.lab.vagrant import box
from veilnet.lab.vagrant.fleet import MachineFleet
from veilnet.lab.vagrant.lab import MachineLab

pytestmark = [pytest.mark.lab, pytest.mark.soak]


@pytest.mark.parametrize("kernel", list(box.KERNELS))
def test_frames_pass_between_machines_in_driver_mode(kernel: str, lab_name: str) -> None:
    if not box.path(kernel).exists():
        box.build(kernel, print)
    lab = MachineLab(lab_name, kernel, print)
    try:
        lab.up("pair")
        fleet = MachineFleet(lab)
        fleet.start(print)
        for node in ("c1", "c2"):
            assert _inside(lab, node, "uname", "-r").startswith(f"{kernel}.")
        assert " xdp " in _inside(lab, "c1", "ip", "link", "show", "u-c2")
        assert " 0% packet loss" in _inside(lab, "c1", "ping", "-c", "5", "-W", "5", fleet.overlay_address("c2"))
    finally:
        lab.down()
    assert not lab.disks.exists() and not list(NETNS_DIR.glob(f"veil-{lab_name}-*"))
    assert not Path("/run/veilnet-lab", lab_name).exists()


def _inside(lab: MachineLab, node: str, *command: str) -> str:
    return subprocess.run(lab.command(node, list(command)), check=True, capture_output=True, text=True).stdout
