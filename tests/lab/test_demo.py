# SPDX-License-Identifier: Apache-2.0
"""`./run demo` as a user sees it: its figures, its time, and nothing left behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from tests.patience import PATIENCE, SLOWNESS, promised
from veilnet.lab.demo import Figures
from veilnet.lab.journal import BASE
from veilnet.lab.net import NETNS_DIR

pytestmark = [pytest.mark.lab, pytest.mark.root]

RUN = Path(__file__).parents[2] / "run"


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A session of its own, as a terminal gives it: signals can go to the whole group."""
    # `run test` starts us in the background, where a shell has SIGINT ignored, and no shell below could trap it again
    command = ["env", "--default-signal=INT", str(RUN), "demo", *arguments]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def traces(pid: int) -> list[str]:
    """Namespaces, pins, directories and processes of the labs that this `run` made: their names hold its pid."""
    name = f"x{pid}demo"
    found = [str(path) for path in NETNS_DIR.glob(f"veil-{name}-*")] if NETNS_DIR.is_dir() else []
    for pattern in (f"{BASE}/{name}*", f"/run/veilnet/{name}*", f"/sys/fs/bpf/veilnet/*/{name}*"):
        found += [str(path) for path in Path("/").glob(pattern.removeprefix("/"))]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if name in line:
            found.append(line)
    return found


def test_figures_in_two_minutes(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    start = time.monotonic()
    with demo("--json", str(file)) as process:
        text = process.communicate(timeout=promised(120))[0]
    late = "BROKEN: first packet" in text and SLOWNESS > 1
    assert process.returncode == late, text
    assert time.monotonic() - start < promised(120)
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert list(figures) == [field.name for field in fields(Figures)]
    assert figures["hops"] == 3
    assert figures["first_packet_ms"] <= promised(1000)
    assert 0 < figures["rtt_ms"] < promised(100)
    assert figures["tcp_mbit"] > 10 / SLOWNESS
    assert figures["udp_kpps"] > 1 / SLOWNESS
    assert figures["python_data_frames"] == figures["udp_sockets"] == 0
    assert traces(process.pid) == []


@pytest.mark.parametrize(
    ("moment", "signum", "group"),
    [
        ("== five nodes", signal.SIGINT, True),
        ("realm lab", signal.SIGTERM, False),
        ("c2: conflux up", signal.SIGINT, True),
    ],
    ids=["building, Ctrl-C", "starting nodes, SIGTERM", "running, Ctrl-C"],
)
def test_interrupted_demo_leaves_nothing(moment: str, signum: signal.Signals, group: bool) -> None:
    with demo() as process:
        assert process.stdout
        while moment not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.3)
        assert traces(process.pid)
        if group:
            os.killpg(process.pid, signum)
        else:
            process.send_signal(signum)
        process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert traces(process.pid) == []
