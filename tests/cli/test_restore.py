# SPDX-License-Identifier: Apache-2.0
"""`veilnet master backup`, `restore` and `db restored` by the command line: what the person is told to do again."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Run


def test_restore_says_what_to_do_again(run: Run, tmp_path: Path) -> None:
    state, backup, again = str(tmp_path / "one"), str(tmp_path / "b.tar"), str(tmp_path / "two")
    run("master", "init", "--url", "http://127.0.0.1:8443", "--state-dir", state)
    assert "owns every realm" in run("master", "backup", backup, "--state-dir", state).err
    told = run("master", "restore", backup, "--state-dir", again).err
    assert re.search(r"Whatever changed after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC is undone", told)
    for what in ("`veilnet node revoke`", "`veilnet token revoke`", "enrol them again", "CA key"):
        assert what in told
    assert f"veilnet master serve --state-dir {again}" in told
    told = run("master", "db", "restored", "--state-dir", again).err
    assert "Whatever changed after the copy was made is undone" in told
    assert "behind entry 1" in told  # the restore itself
    assert "already holds a Master" in run("master", "restore", backup, "--state-dir", again, code=1).err
