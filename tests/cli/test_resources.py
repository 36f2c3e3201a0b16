# SPDX-License-Identifier: Apache-2.0
"""Commands that are made from the generated client."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Served
from veilnet.cli.resources import OF_NODES, RESOURCES
from veilnet.client.api import Api

BY_HAND = {"who_am_i", "get_login_options", "create_session"}


def test_every_operation_of_the_api_has_a_command() -> None:
    operations = {name for name, found in vars(Api).items() if callable(found) and not name.startswith("_")}
    reached = {operation for resource in RESOURCES for _, operation in resource.operations()}
    assert operations - reached == OF_NODES | BY_HAND, "add a line to RESOURCES in veilnet/cli/resources.py"


def test_a_resource_from_its_making_to_its_end(run: Run, served: Served) -> None:
    made = json.loads(
        run("user", "create", "--name", "ada", "--email", "a@example.org", "--grant", "auditor", "--json",
            *served.admin).out
    )  # fmt: skip
    assert made["grants"] == [{"realm_id": None, "role": "auditor"}]
    run("user", "update", "ada", "--state", "suspended", "--unset", "email", *served.admin)
    found = json.loads(run("user", "get", made["id"], "--json", *served.admin).out)
    assert (found["state"], found["email"]) == ("suspended", None)
    assert "ada" in run("user", "list", *served.admin).out
    run("user", "delete", "ada", *served.admin)
    assert json.loads(run("user", "list", "--json", *served.admin).out) == []
    assert "ada" in run("user", "get", "ada", *served.admin, code=1).err
    assert "missing: --name" in run("user", "create", *served.admin, code=2).err


def test_filters_reach_the_master(run: Run, served: Served) -> None:
    run("realm", "create", "lab", *served.admin)
    assert json.loads(run("node", "list", "--role", "guardian", "--json", *served.admin).out) == []
    assert "role" in run("node", "list", "--role", "king", *served.admin, code=1).err
    listed = json.loads(run("audit", "list", "--action", "create_realm", "--json", *served.admin).out)
    assert [entry["action"] for entry in listed] == ["create_realm"]


def test_what_is_shown_once_goes_to_a_file_or_alone_to_stdout(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "bearer"
    made = run("api-token", "create", "--name", "ci", "--grant", "readonly", "-o", str(file), "--json", *served.admin)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    bearer = file.read_text().strip()
    assert bearer.startswith("vnt_") and bearer not in made.out + made.err
    alone = run("api-token", "create", "--name", "two", "--grant", "readonly", *served.admin)
    assert alone.out.startswith("vnt_") and alone.out.count("\n") == 1
    assert run("api-token", "revoke", "two", *served.admin).out


def test_long_work_is_waited_for(run: Run, served: Served) -> None:
    ended = json.loads(run("audit", "verify", "--wait", "--json", *served.admin).out)
    assert (ended["state"], ended["result"]["first_fault"]) == ("succeeded", None)


def test_a_body_from_a_file_and_from_standard_input(run: Run, served: Served, tmp_path: Path) -> None:
    run("realm", "create", "lab", *served.admin)
    file = tmp_path / "policy.yml"
    file.write_text("default: none\n")
    assert json.loads(run("policy", "check", "lab", "--body", str(file), *served.admin).out)["failures"] == []
    run("policy", "replace", "lab", "--body", "-", *served.admin, stdin="default: none\n")
    document = json.loads(run("policy", "get", "lab", "--json", *served.admin).out)["document"]
    assert document["default"] == "none"
    file.write_text("[]")
    assert "not an object" in run("policy", "check", "lab", "--body", str(file), *served.admin, code=2).err
    assert "No such file" in run("policy", "check", "lab", "--body", "/nowhere", *served.admin, code=2).err


def test_completion_knows_the_commands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # no shell need be our ancestor
    assert "_VEILNET_COMPLETE" in run("--show-completion", "bash").out
    monkeypatch.setenv("_VEILNET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "veilnet webhook r")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run(code=None).out.split() == ["replace", "replay", "rotate-secret"]
