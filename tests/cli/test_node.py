# SPDX-License-Identifier: Apache-2.0
"""Node's commands as far as they go without a data plane: secrets, identity, daemon handling, doctor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, Served
from tests.patience import PATIENCE
from veilnet.cli import bring_up, daemon, doctor
from veilnet.cli.bring_up import Wanted
from veilnet.cli.output import CliError, Exit
from veilnet.keyd.node_files import NodeFiles

ENDPOINT = ((IPv4Address("192.0.2.1"), 4000),)


@pytest.fixture
def run_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(daemon, "RUN", tmp_path / "run")
    (tmp_path / "run" / "t").mkdir(parents=True)
    return tmp_path / "run" / "t"


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    return Wanted(
        role="guardian",
        instance="t",
        state_dir=tmp_path / "node",
        nics=("lo",),
        addresses=("192.0.2.1",),
        knock_port=4000,
        device="veil0",
        name=None,
        allow_generic=False,
        dark=False,
        foreground=False,
    )


# ---- enrolment on the way up -------------------------------------------------------------------------------------


def test_up_enrols_once_and_follows_its_endpoints(run: Run, served: Served, wanted: Wanted) -> None:
    run("realm", "create", "lab", *served.admin)
    token = run("token", "create", "--role", "guardian", *served.admin).out
    files = NodeFiles(wanted.state_dir)
    info = bring_up._enrolled(files, replace(wanted, name="here"), token, ENDPOINT)
    assert (info.name, str(info.ipv4)) == ("here", "10.90.0.1/16")
    first = files.read("descriptor.json")
    assert bring_up._enrolled(files, wanted, None, ENDPOINT) == info
    assert files.read("descriptor.json") == first
    bring_up._enrolled(files, wanted, None, ((IPv4Address("192.0.2.2"), 4000),))
    assert files.read("descriptor.json") != first
    assert bring_up._knock_port(files, replace(wanted, knock_port=None)) == 4000
    with pytest.raises(CliError, match="enrolled as guardian, not as conflux"):
        bring_up._enrolled(files, replace(wanted, role="conflux"), None, ENDPOINT)


def test_up_without_a_token_says_where_to_get_one(wanted: Wanted) -> None:
    with pytest.raises(CliError, match="no token") as caught:
        bring_up._enrolled(NodeFiles(wanted.state_dir), wanted, None, ENDPOINT)
    assert "veilnet token create" in caught.value.remedy
    with pytest.raises(CliError, match="damaged"):
        bring_up._enrolled(NodeFiles(wanted.state_dir), wanted, "veil1.AAAA", ENDPOINT)


def test_up_names_the_state_directory_that_can_not_be_written(run: Run, served: Served, wanted: Wanted) -> None:
    run("realm", "create", "lab", *served.admin)
    token = run("token", "create", "--role", "guardian", *served.admin).out
    wanted.state_dir.touch()
    files = NodeFiles(wanted.state_dir / "below")
    with pytest.raises(CliError, match=r"state directory .*below: Not a directory") as caught:
        bring_up._on_disk(files, wanted, token, ENDPOINT)
    assert "nothing was brought up" in caught.value.remedy


def test_token_never_comes_from_argv(run: Run) -> None:
    refused = run("guardian", "up", "--nic", "eth0", "--token", "veil1.SECRET", code=2)
    assert "SECRET" not in refused.err
    assert "/proc" in refused.err and "VEILNET_TOKEN" in refused.err
    assert "No such file" in run("conflux", "up", "--nic", "eth0", "--token", "@/nonexistent", code=2).err
    assert "standard input" in run("conflux", "up", "--nic", "eth0", "--token", "-", code=2).err


def test_addresses_come_from_the_nic_unless_given(wanted: Wanted) -> None:
    assert bring_up._addresses(wanted) == [IPv4Address("192.0.2.1")]
    assert bring_up._addresses(replace(wanted, addresses=())) == [IPv4Address("127.0.0.1")]
    with pytest.raises(CliError, match="no such device"):
        bring_up._addresses(replace(wanted, addresses=(), nics=("nope",)))
    for wrong in ("300.1.1.1", "fd00::1"):
        with pytest.raises(CliError, match="--address"):
            bring_up._addresses(replace(wanted, addresses=(wrong,)))


# ---- the daemon --------------------------------------------------------------------------------------------------


def test_no_daemon(run: Run, run_dir: Path) -> None:
    for command in (("status",), ("ping", "x"), ("paths",), ("guardian", "status")):
        result = run(*command, "--instance", "t", code=3)
        assert "instance t" in result.err and "to do:" in result.err


@pytest.fixture
def answering(run_dir: Path) -> Iterator[dict[str, object]]:
    """Something that answers each request on control.sock with the value under its command."""
    answers: dict[str, object] = {}
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(run_dir / "control.sock"))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                request = json.loads(stream.readline())
                stream.write(json.dumps(answers[request["command"]] | {"asked": request}).encode() + b"\n")  # type: ignore[operator]

    thread = threading.Thread(target=serve)
    thread.start()
    yield answers
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_answers_are_shown(run: Run, answering: dict[str, object]) -> None:
    leg = {"label": 7, "state": "spliced", "previous": "a", "next": "b"}
    answering["status"] = {
        "node": {"name": "g", "roles": ["guardian"]},
        "links": [],
        "legs": [leg] * 21,
        "counters": {"OK_FORWARD": 7, "DROP_LOOP": 0},
        "clock_fault": None,
    }
    answering["ping"] = {"ok": True, "rtt_ms": 1.25}
    answering["paths"] = {"paths": [{"peer": "b", "hops": ["g1", "g2"], "state": "up", "rtt_ms": 2}]}
    assert json.loads(run("status", "--instance", "t", "--json").out)["legs"] == [leg] * 21
    lines = run("status", "--instance", "t").out.splitlines()
    assert lines[:4] == ["node: name g, roles guardian", "links: 0", "legs: 21", "  previous a, next b, state spliced"]
    assert lines[23:26] == ["  and 1 more: --json shows all", "counters: OK_FORWARD 7", "clock_fault: none"]
    assert run("ping", "b", "--instance", "t").out == "b: 1.250 ms\n"
    asked = json.loads(run("ping", "b", "--instance", "t", "--timeout", "2", "--json").out)["asked"]
    assert asked == {"command": "ping", "name": "b", "timeout": 2.0}
    assert "g1,g2" in run("paths", "--instance", "t").out
    answering["ping"] = {"ok": False}
    assert "did not answer" in run("ping", "b", "--instance", "t", code=3).err
    answering["ping"] = {"error": "unknown node c"}
    assert "unknown node c" in run("ping", "c", "--instance", "t", code=1).err


def test_stop_ends_its_own_daemon_and_no_other_process(run_dir: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    other = subprocess.Popen(sleeper)
    own = subprocess.Popen([*sleeper, "veilnet.keyd", "--instance", "t"])
    try:
        (run_dir / "keyd.pid").write_text(f"{other.pid}\n")
        assert daemon.running_pid("t") is None
        assert daemon.stop("t") is False
        assert other.poll() is None
        daemon.claim("t", own.pid)
        while daemon.running_pid("t") is None:  # exec has not happened yet
            assert own.poll() is None
        assert daemon.stop("t") is True
        assert own.wait(PATIENCE) != 0
        assert not (run_dir / "keyd.pid").exists()
        assert daemon.stop("t") is False
    finally:
        for process in (other, own):
            process.kill()
            process.wait()


def test_a_daemon_that_ends_at_once_is_reported(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="ended at once"):
        daemon.start("t", tmp_path, ["--no-such-option"])


@pytest.mark.root
def test_a_daemon_that_has_no_room_for_its_last_words_is_not_given_those_of_another(
    run_dir: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)], check=True)
    try:
        (disk / "keyd.log").write_bytes(b"an older life\n".rjust(4096, b"."))
        with pytest.raises(CliError, match=rf"ended at once .* no output, as there is no space left in {disk}"):
            daemon.start("t", disk, ["--no-such-option"])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- doctor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "state"), [("6.1.0-18-amd64", "ok"), ("6.18.1", "ok"), ("5.15.0", "failed"), ("x", "failed")]
)
def test_kernel_version(release: str, state: str) -> None:
    check = doctor.check_kernel(release)
    assert check.state == state
    assert bool(check.remedy) == (state == "failed")


def test_missing_bpffs_names_the_mount(tmp_path: Path) -> None:
    check = doctor.check_bpffs(tmp_path)
    assert (check.state, check.remedy) == ("failed", f"mount -t bpf bpf {tmp_path}")


def test_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert doctor.check_root().state == "failed"
    with pytest.raises(CliError) as caught:
        bring_up.require_root()
    assert caught.value.code is Exit.NOT_PERMITTED


def test_doctor_fails_with_what_to_do(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "--nic", "nope", "--state-dir", str(tmp_path / "none"), "--json", code=1)
    checks = {check["name"]: check for check in json.loads(result.out)}
    assert checks["nic nope"]["state"] == "failed"
    assert checks["master"]["state"] == "skipped"
    assert all(check["remedy"] for check in checks.values() if check["state"] == "failed")
    assert "to do:" in run("doctor", "--nic", "nope", "--state-dir", str(tmp_path / "none"), code=1).out


def test_doctor_asks_the_master_and_compares_clocks(
    run: Run, served: Served, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("realm", "create", "lab", *served.admin)
    token = run("token", "create", "--role", "guardian", *served.admin).out
    files = NodeFiles(wanted.state_dir)
    bring_up._enrolled(files, wanted, token, ENDPOINT)
    assert [check.state for check in doctor.check_master(files)] == ["ok", "ok"]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 200)
    reached, clock = doctor.check_master(files)
    assert (reached.state, clock.state) == ("ok", "failed")
    assert "timedatectl" in clock.remedy
    monkeypatch.undo()
    files.write("node.json", files.read("node.json").replace(served.url.encode(), b"https://127.0.0.1:1"))
    (away,) = doctor.check_master(files)
    assert away.state == "failed" and away.remedy


def test_doctor_sees_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    assert doctor.check_disk(NodeFiles(tmp_path / "none")).state == "skipped"
    assert doctor.check_disk(NodeFiles(tmp_path)).state == "ok" and not list(tmp_path.iterdir())
    full = doctor.check_disk(NodeFiles(Path("/proc/self")))
    assert full.state == "failed" and "make room" in full.remedy


# ---- networks behind other nodes ---------------------------------------------------------------------------------


def test_accepting_reaches_the_daemon_only_when_asked_for(wanted: Wanted) -> None:
    conflux = replace(wanted, role="conflux")
    assert "--accept-networks" not in bring_up.keyd_arguments(conflux, 4000)
    assert "--accept-networks" in bring_up.keyd_arguments(replace(conflux, accept_networks=True), 4000)
    offering = bring_up.keyd_arguments(replace(conflux, offered=("10.1.0.0/16", "10.2.0.0/16")), 4000)
    assert list(offering[-4:]) == ["--offer-network", "10.1.0.0/16", "--offer-network", "10.2.0.0/16"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accept_networks": True}, "a Guardian sends nothing"),
        ({"offered": ("10.1.0.0/16",)}, "a Guardian sends nothing"),
        ({"role": "conflux", "offered": ("10.1.0.1/16",)}, "has host bits set"),
        ({"role": "conflux", "offered": ("office",)}, "--offer-network"),
    ],
)
def test_network_options_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, wanted: Wanted, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(bring_up, "require_root", lambda: None)
    with pytest.raises(CliError, match=said) as error:
        bring_up.bring_up(replace(wanted, **changes), None)
    assert error.value.code is Exit.USAGE
    assert not wanted.state_dir.exists()
