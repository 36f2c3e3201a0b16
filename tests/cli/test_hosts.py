# SPDX-License-Identifier: Apache-2.0
"""`veilnet hosts`: lines, and a file that is not ours."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from veilnet.cli import daemon
from veilnet.cli.hosts import lines, replaced

ANSWER: dict[str, Any] = {
    "suffix": "lab.internal",
    "hosts": [{"address": "10.90.0.1", "name": "c1.lab.internal"}, {"address": "fd00::1", "name": "c1.lab.internal"}],
}
PRINTED = "10.90.0.1 c1.lab.internal\nfd00::1 c1.lab.internal\n"
OURS = f"# veilnet default: begin, do not edit\n{PRINTED}# veilnet default: end\n"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the daemon answers."""
    answer = dict(ANSWER)
    monkeypatch.setattr(daemon, "ask", lambda *_: answer)
    return answer


def test_lines_are_printed(run: Run, told: dict[str, Any]) -> None:
    assert run("hosts").out == PRINTED


def test_what_is_no_name_or_address_is_left_out() -> None:
    hostile = [("10.0.0.1 x", "a.b"), ("10.0.0.1", "a.b\n1.2.3.4 bank.example"), ("10.0.0.1", "a b"), ("10.0.0.1", "")]
    assert lines({"hosts": [{"address": address, "name": name} for address, name in hostile]}) == ""


def test_the_rest_of_a_file_stays(run: Run, told: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n# mine")
    path.chmod(0o640)
    run("hosts", "--write", str(path))
    assert path.read_text() == "127.0.0.1 localhost\n# mine\n" + OURS
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.write_text(path.read_text() + "10.0.0.1 later\n")
    told["hosts"] = []
    told["hosts"] = ANSWER["hosts"][:1]
    run("hosts", "--write", str(path))
    assert "fd00::1" not in path.read_text()
    assert path.read_text().endswith("10.0.0.1 later\n")
    run("hosts", "--remove", str(path))
    assert path.read_text() == "127.0.0.1 localhost\n# mine\n10.0.0.1 later\n"
    assert [item.name for item in tmp_path.iterdir()] == ["hosts"]


def test_the_same_again_does_not_touch_the_file(run: Run, told: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    run("hosts", "--write", str(path))
    before = path.stat()
    run("hosts", "--write", str(path))
    assert path.stat().st_ino == before.st_ino


def test_a_link_stays_a_link(run: Run, told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "real").write_text("127.0.0.1 localhost\n")
    (tmp_path / "hosts").symlink_to("real")
    run("hosts", "--write", str(tmp_path / "hosts"))
    assert (tmp_path / "hosts").is_symlink()
    assert OURS in (tmp_path / "real").read_text()


@pytest.mark.parametrize("suffix", ["example.com", "internal", "google.internal"])
def test_a_suffix_that_others_use_needs_a_word(run: Run, told: dict[str, Any], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "hosts"
    told["suffix"] = suffix
    said = run("hosts", "--write", str(path), code=None)
    assert said.code != 0
    assert f"--suffix {suffix}" in said.err
    assert not path.exists()
    run("hosts", "--write", str(path), "--suffix", suffix)
    assert path.exists()


@pytest.mark.parametrize(
    "text",
    [
        OURS.replace("# veilnet default: end\n", ""),
        OURS.replace("# veilnet default: begin, do not edit\n", ""),
        OURS + OURS,
        "".join(reversed(OURS.splitlines(keepends=True))),
    ],
)
def test_broken_marks_leave_the_file_alone(run: Run, told: dict[str, Any], tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    said = run("hosts", "--write", str(path), code=None)
    assert said.code != 0
    assert "left as it is" in said.err
    assert path.read_text() == text


def test_an_error_names_the_file(run: Run, told: dict[str, Any], tmp_path: Path) -> None:
    said = run("hosts", "--write", str(tmp_path / "none" / "hosts"), code=None)
    assert said.code != 0
    assert "none/hosts" in said.err.replace("\n", "")


def test_two_instances_keep_their_own_parts() -> None:
    both = replaced(replaced("", "one", "10.0.0.1 a.b\n"), "two", "10.0.0.2 a.b\n")
    assert replaced(replaced(both, "one", ""), "two", "") == ""
