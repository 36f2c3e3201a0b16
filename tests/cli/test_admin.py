# SPDX-License-Identifier: Apache-2.0
"""Administrator's commands against a served Master."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from tests.api.conftest import INHERITED
from tests.cli.conftest import Run, Served, free_port
from veilnet.admin_token import AdminTokenText
from veilnet.cli.output import CliError
from veilnet.cli.token import seconds
from veilnet.enrolment_token import read_token
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node_files import NodeFiles


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_from_nothing_to_a_topology(run: Run, served: Served, tmp_path: Path) -> None:
    run("realm", "create", "lab", "--ipv4", "10.9.0.0/16", "--min-guardians", "0", *served.admin)
    assert "10.9.0.0/16" in run("realm", "list", *served.admin).out
    told = map(json.loads, (tmp_path / "master.log").read_text().splitlines())
    (serving,) = [line for line in told if line["event"] == "serving"]
    assert served.url == f"https://{serving['host']}:{serving['port']}" and serving["tls"]
    token_file = tmp_path / "token"
    made = run("token", "create", "--role", "guardian", "--uses", "0", "-o", str(token_file), *served.admin)
    assert (made.out, private(token_file)) == ("", True)
    token = read_token(token_file.read_text())
    assert token.secret not in made.err
    for name in ("a", "b", "c"):
        asyncio.run(enrol(NodeFiles(tmp_path / name), token, name, ()))
    run("topology", "link", "a", "b", *served.admin)
    file = tmp_path / "topology.yaml"
    file.write_text("name: x\nlinks:\n  - [a, b]\n  - [c, b]\n")
    run("topology", "apply", str(file), *served.admin)
    shown = json.loads(run("topology", "show", "--json", *served.admin).out)
    assert [(edge["a"]["name"], edge["b"]["name"]) for edge in shown] == [("a", "b"), ("b", "c")]
    run("topology", "unlink", "b", "a", *served.admin)
    run("node", "revoke", "c", *served.admin)
    assert json.loads(run("topology", "show", "--json", *served.admin).out) == []
    nodes = json.loads(run("node", "list", "--json", *served.admin).out)
    assert {node["name"]: node["state"] for node in nodes} == {"a": "active", "b": "active", "c": "revoked"}
    again = run("node", "revoke", "c", *served.admin, code=2)
    assert "no active node" in again.err and "to do:" in again.err


def test_token_is_alone_on_stdout_and_can_be_revoked(run: Run, served: Served) -> None:
    run("realm", "create", "lab", *served.admin)
    made = run("token", "create", "--role", "conflux", "--name", "n", "--expires", "15m", *served.admin)
    assert made.out.count("\n") == 1
    token = read_token(made.out)
    run("token", "revoke", token.id, *served.admin)
    (listed,) = json.loads(run("token", "list", "--json", *served.admin).out)
    assert (listed["state"], listed["roles"], listed["node_name"]) == ("revoked", ["conflux"], "n")
    missing = run("token", "revoke", "tok_nothing", *served.admin, code=1)
    assert "tok_nothing" in missing.err


def test_settings_keep_what_is_not_given(run: Run, served: Served) -> None:
    run("realm", "create", "lab", "--idle-seconds", "77", *served.admin)
    assert json.loads(run("realm", "settings", "--rekey-seconds", "30", *served.admin).out) == {
        **INHERITED,
        "min_guardians": 2,
        "rekey_seconds": 30,
        "idle_seconds": 77,
    }
    assert json.loads(run("realm", "settings", "lab", *served.admin).out)["rekey_seconds"] == 30
    assert "/idle_seconds" in run("realm", "settings", "--idle-seconds", "1", *served.admin, code=1).err


def test_lifetimes_are_set_and_given_back_to_the_master(run: Run, served: Served) -> None:
    run("realm", "create", "lab", "--certificate-seconds", "3600", *served.admin)
    for given, held in (("7200", 7200), ("master", None)):
        found = json.loads(run("realm", "settings", "--certificate-seconds", given, *served.admin).out)
        assert (found["certificate_seconds"], found["grace_seconds"]) == (held, None)
    assert "seconds, or `master`" in run("realm", "settings", "--grace-seconds", "soon", *served.admin, code=2).err
    assert "/certificate_seconds" in run("realm", "settings", "--certificate-seconds", "5", *served.admin, code=1).err


def test_realm_must_be_named_when_there_is_a_choice(run: Run, served: Served) -> None:
    assert "none" in run("topology", "show", *served.admin, code=2).err
    run("realm", "create", "one", *served.admin)
    run("topology", "show", *served.admin)
    run("realm", "create", "two", *served.admin)
    assert "one, two" in run("topology", "show", *served.admin, code=2).err
    run("topology", "show", "--realm", "two", *served.admin)


def test_topology_files_that_are_wrong(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    for content in ("links: 5", "- a", "links: [[a]]", "links: [", "{}"):
        file.write_text(content)
        assert str(file) in run("topology", "apply", str(file), code=2).err
    assert "No such file" in run("topology", "apply", str(tmp_path / "no"), code=2).err


def test_credential_comes_from_file_stdin_environment_or_home(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = served.admin_file.read_text()
    nothing = run("realm", "list", code=4)
    assert "no administrator's token" in nothing.err
    run("realm", "list", "--admin-token", "-", stdin=text)
    on_argv = run("realm", "list", "--admin-token", text.strip(), code=2)
    assert text.strip() not in on_argv.err
    assert "/proc" in on_argv.err
    home = tmp_path / ".config" / "veilnet" / "admin-token"
    home.parent.mkdir(parents=True)
    home.write_text(text)
    run("realm", "list")
    home.unlink()
    monkeypatch.setenv("VEILNET_ADMIN_TOKEN", text)
    run("realm", "list")
    assert "veila1." in run("realm", "list", "--admin-token", "-", stdin="x", code=2).err


BEARER = "vnt_x_y"


def test_wrong_credential_wrong_master_no_master(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = AdminTokenText(url=served.url, token=BEARER, tls="00" * 32)
    monkeypatch.setenv("VEILNET_ADMIN_TOKEN", pinned.encode())
    assert "another TLS certificate" in run("realm", "list", code=3).err
    away = AdminTokenText(url=f"https://127.0.0.1:{free_port()}", token=BEARER, tls="00" * 32)
    monkeypatch.setenv("VEILNET_ADMIN_TOKEN", away.encode())
    assert "master serve" in run("realm", "list", code=3).err
    settings = json.loads((served.state_dir / "master.json").read_text())
    wrong = AdminTokenText(url=served.url, token=BEARER, tls=settings["tls_fingerprint"])
    monkeypatch.setenv("VEILNET_ADMIN_TOKEN", wrong.encode())
    assert "not known here" in run("realm", "list", code=4).err


def test_init_shows_the_token_once_and_refuses_to_run_twice(run: Run, tmp_path: Path) -> None:
    state_dir = str(tmp_path / "m")
    made = run("master", "init", "--url", "https://192.0.2.1:8443", "--state-dir", state_dir)
    assert made.out.startswith("veila1.") and made.out.count("\n") == 1
    assert made.out.strip() not in made.err
    again = run("master", "init", "--url", "https://192.0.2.1:8443", "--state-dir", state_dir, code=1)
    assert "already holds a Master" in again.err
    assert all(private(path) for path in (tmp_path / "m").iterdir() if path.is_file())
    assert "https" in run("master", "init", "--url", "ftp://x", "--state-dir", str(tmp_path / "n"), code=1).err


def test_serve_refuses_plain_http_to_the_world(run: Run, tmp_path: Path) -> None:
    state_dir = str(tmp_path / "m")
    assert "master init" in run("master", "serve", "--state-dir", state_dir, code=1).err
    run("master", "init", "--url", "http://127.0.0.1:1", "--state-dir", state_dir)
    refused = run("master", "serve", "--state-dir", state_dir, "--plain-http", "--host", "192.0.2.1", code=1)
    assert "loopback only" in refused.err
    assert "--plain-http" in run("master", "serve", "--state-dir", state_dir, code=1).err


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800)])
def test_times(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "7", "d", "-1s", "1w", "1 h"])
def test_times_that_are_wrong(text: str) -> None:
    with pytest.raises(CliError):
        seconds(text)
