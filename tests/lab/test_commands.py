# SPDX-License-Identifier: Apache-2.0
"""The repository's own commands: `run`, `.ci/run`, and what Vagrant makes of the Vagrantfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "run"), *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE, env=os.environ | (env or {})
    )


@pytest.mark.parametrize("arguments", [(), ("help",), ("-h",), ("--help",)])
def test_help_lists_every_command(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert not done.stderr
    listed = re.findall(r"^sudo \./run (\w+)", done.stdout, re.MULTILINE)
    accepted = re.search(r"^(setup .*)\) ;;$", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert accepted
    assert sorted(listed) == sorted(accepted[1].split(" | "))


def test_unknown_command_shows_usage_and_fails() -> None:
    done = run("tset")
    assert done.returncode == 2
    assert "sudo ./run test" in done.stderr
    assert not done.stdout


def test_run_works_from_anywhere_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "veilnet-run"
    link.symlink_to(ROOT / "run")
    done = subprocess.run([link, "help"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert "sudo ./run demo" in done.stdout


@pytest.mark.root
def test_lab_arguments_reach_the_lab() -> None:
    done = run("lab", "exec", "--name", "nosuchlab", "c1", "true")
    assert done.returncode == 1
    assert "no lab 'nosuchlab'" in done.stderr


@pytest.mark.parametrize("script", ["run", ".ci/run", "tools/setup.sh"])
def test_scripts_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(path)], check=True)


def validate(folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "veilnet", folder / "veilnet", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    env = os.environ | {
        "PYTHONPATH": str(folder),
        "VAGRANT_HOME": str(folder / "home"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }
    return subprocess.run(
        ["vagrant", "validate"], check=False, capture_output=True, text=True, cwd=folder, env=env, timeout=2 * PATIENCE
    )


def test_vagrant_accepts_the_vagrantfile(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Vagrantfile", tmp_path)
    done = validate(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "validated successfully" in done.stdout


def test_vagrant_refuses_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    text = (ROOT / "Vagrantfile").read_text(encoding="utf-8")
    assert "libvirt.cpus = 2" in text
    (tmp_path / "Vagrantfile").write_text(text.replace("libvirt.cpus = 2", "libvirt.cpuz = 2"), encoding="utf-8")
    done = validate(tmp_path)
    assert done.returncode == 1
    assert "cpuz" in done.stderr + done.stdout
