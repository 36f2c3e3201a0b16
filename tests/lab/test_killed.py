# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the lab command at any moment of `up` and of `down`: the next `down` leaves nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import PATIENCE, SOAK, wait_for
from veilnet.lab import leftovers

pytestmark = [pytest.mark.lab, pytest.mark.root]

SEED = int(os.environ.get("VEILNET_SEED", "5"))
MOMENTS = 10 if SOAK else 3
"""Of `up`, and as many of `down`: twenty with VEILNET_SOAK."""
# wires, a NAT, a network, two members with a file system each (--wires): all that a lab makes
TOPOLOGY = """\
name: killed
nodes:
  master: {role: master}
  c1: {role: conflux}
  n1: {role: nat, mapping: endpoint-independent, filtering: address-dependent, outside: lan}
  r1: {role: router, icmp: no-errors}
  g1: {role: guardian}
links:
  - [c1, n1]
  - {ends: [r1, g1], delay: 2ms}
networks:
  lan: {nodes: [n1, r1]}
edges: [[c1, g1]]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "killed.yml").write_text(TOPOLOGY)
    return tmp_path / "killed.yml"


def lab(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "veilnet.lab", *arguments]


def up(name: str, file: Path) -> list[str]:
    """Every link through an emulator, file systems mounted; with VeilNet in it where there is time."""
    return lab("up", str(file), "--name", name, "--wires", *(() if SOAK else ("--bare",)))


def seconds(command: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=4 * PATIENCE)
    return time.monotonic() - start


def kill_after(command: list[str], moment: float) -> None:
    """Only the command itself: what it has started goes on, or not, as after any kill."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()


def clean(name: str) -> None:
    """The next `down`, then a look at everything."""
    done = subprocess.run(lab("down", name), check=False, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0 or f"no lab {name!r}" in done.stderr, done.stderr
    with suppress(AssertionError):  # a child of the killed command may be on its way out
        wait_for(lambda: not leftovers.traces(name), PATIENCE / 4)
    assert not leftovers.traces(name)


@pytest.mark.parametrize("way", ["up", "down"])
def test_killed_at_random_moments(lab_name: str, file: Path, way: str) -> None:
    rng = random.Random(f"{SEED}-{way}")
    before = leftovers.host()
    whole = seconds(up(lab_name, file))
    whole_down = seconds(lab("down", lab_name))
    for _ in range(MOMENTS):
        if way == "up":
            kill_after(up(lab_name, file), rng.uniform(0, whole))
        else:
            seconds(up(lab_name, file))
            kill_after(lab("down", lab_name), rng.uniform(0, whole_down))
        clean(lab_name)
    assert leftovers.host() == before


def test_down_all_cleans_what_was_killed(lab_name: str, file: Path) -> None:
    """`--prefix`, not `--all`: other people's labs stay."""
    names = [f"{lab_name}{letter}" for letter in "ab"]
    for name in names:
        kill_after(lab("up", str(file), "--name", name, "--bare"), 0.7)
    subprocess.run(lab("down", "--prefix", lab_name), check=True, capture_output=True, timeout=2 * PATIENCE)
    assert leftovers.traces(lab_name) == []
