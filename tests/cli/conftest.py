# SPDX-License-Identifier: Apache-2.0
"""The command line as its users run it: `main` with an argument list, against a Master served by its own process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from veilnet.cli.main import main

MAIN = [sys.executable, "-c", "from veilnet.cli.main import main; main()"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Exit code and both outputs of one command, in a home directory of its own and without VeilNet's variables."""
    for name in [name for name in os.environ if name.startswith("VEILNET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def once(*arguments: str, stdin: str = "", code: int | None = 0) -> Result:
        monkeypatch.setattr(sys, "argv", ["veilnet", *arguments])
        monkeypatch.setattr(sys, "stdin", StringIO(stdin))
        capsys.readouterr()
        try:
            main()
            found = 0
        except SystemExit as ended:
            found = int(ended.code or 0)
        captured = capsys.readouterr()
        assert code is None or found == code, captured.out + captured.err
        return Result(found, captured.out, captured.err)

    return once


@dataclass(frozen=True)
class Served:
    url: str
    state_dir: Path
    admin_file: Path

    @property
    def admin(self) -> tuple[str, str]:
        return "--admin-token", f"@{self.admin_file}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path, run: Run) -> Iterator[Served]:
    port = free_port()
    url, state_dir, admin_file = f"https://127.0.0.1:{port}", tmp_path / "master", tmp_path / "admin"
    run("master", "init", "--url", url, "--state-dir", str(state_dir), "--admin-token-file", str(admin_file))
    command = [*MAIN, "master", "serve", "--state-dir", str(state_dir), "--host", "127.0.0.1", "--ops", "off"]
    with (tmp_path / "master.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield Served(url, state_dir, admin_file)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) in {0, -signal.SIGTERM}  # the server hands the signal on when it has shut down


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "the Master ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the Master did not listen")
