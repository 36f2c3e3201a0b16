# SPDX-License-Identifier: Apache-2.0
"""Links by the kernel's netem, in a lab within a machine whose kernel has it: VEILNET_SOAK=1, minutes."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from veilnet.lab.vagrant import box
from veilnet.lab.vagrant.lab import MachineLab

pytestmark = [pytest.mark.lab, pytest.mark.soak]
TOPOLOGY = """
name: inner
nodes:
  master: {role: master}
  c1: {role: conflux}
  c2: {role: conflux}
links:
  - {ends: [c1, c2], delay: 40ms, loss: 20%}
"""
ENVIRONMENT = "PYTHONPATH=/opt/veilnet/tree:/opt/veilnet/site BCC_KERNEL_SOURCE=/opt/veilnet/headers"
LAB = f"cd /tmp && {ENVIRONMENT} python3 -P -m veilnet.lab"
PING = "nsenter --net=/run/netns/veil-inner-c1 ping -i 0.2 -W 2"


def test_a_lab_inside_a_machine_delays_loses_and_takes_faults(lab_name: str) -> None:
    if not box.path("6.1").exists():
        box.build("6.1", print)
    lab = MachineLab(lab_name, "6.1", print)
    try:
        lab.up("pair")
        inside(lab, f"cat > /tmp/inner.yml <<'END'\n{TOPOLOGY}END")
        inside(lab, f"{LAB} up inner.yml --name inner --netem --bare")
        assert "netem" in inside(lab, f"{LAB} status inner")
        said = inside(lab, f"{PING} -c 100 10.77.0.2 || true")
        assert 80 <= mean_ms(said) < 100
        assert 15 <= lost_percent(said) <= 60  # 36 asked, 100 pings: five deviations
        before = options(lab)
        inside(lab, f"{LAB} fault --name inner link c1-c2 delay=5ms loss=0% rate=1mbit")
        said = inside(lab, f"{PING} -c 20 10.77.0.2")
        assert 10 <= mean_ms(said) < 30
        assert lost_percent(said) == 0
        assert "rate" in str(options(lab))
        refused = inside(lab, f"{LAB} fault --name inner link c1-c2 mtu=1000 2>&1 || true")
        assert "netem can't drop frames over 1000 bytes" in refused
        inside(lab, f"{LAB} fault --name inner undo")
        assert options(lab) == before
        assert 80 <= mean_ms(inside(lab, f"{PING} -c 30 10.77.0.2 || true")) < 100
        inside(lab, f"{LAB} down inner")
        assert "veil-inner" not in inside(lab, "ip netns list")
    finally:
        lab.down()


def inside(lab: MachineLab, script: str) -> str:
    command = lab.command("c1", ["sh", "-c", script])
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def options(lab: MachineLab) -> list[Any]:
    """What the qdiscs of the wire do."""
    show = "nsenter --net=/run/netns/veil-inner-wire0 tc -j qdisc show"
    return [found["options"] for found in json.loads(inside(lab, show)) if found["kind"] == "netem"]


def mean_ms(said: str) -> float:
    found = re.search(r"rtt min/avg/max/mdev = [\d.]+/([\d.]+)/", said)
    assert found, said
    return float(found[1])


def lost_percent(said: str) -> float:
    found = re.search(r"([\d.]+)% packet loss", said)
    assert found, said
    return float(found[1])
