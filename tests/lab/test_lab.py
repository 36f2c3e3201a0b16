# SPDX-License-Identifier: Apache-2.0
"""A lab goes up and leaves nothing when it goes down, also after a kill -9 at any moment of the way up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE, wait_for
from veilnet.lab import net, processes
from veilnet.lab.__main__ import main
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import BASE, Journal, LabError, exclusive
from veilnet.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.root]


def lab(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "veilnet.lab", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=PATIENCE)


def traces(name: str) -> dict[str, set[str]]:
    """What a lab could leave: namespaces, devices of this namespace, pins, files, processes."""
    links = json.loads(subprocess.run(["ip", "-j", "link"], check=True, capture_output=True).stdout)
    return {
        "netns": {path.name for path in Path("/run/netns").glob(f"veil-{name}-*")},
        "links": {row["ifname"] for row in links if row["ifname"].startswith(("u-", "m-", "mgmt", "veil"))},
        "pins": {str(path) for path in Path("/sys/fs/bpf").glob(f"*{name}*")},
        "files": {str(path) for path in BASE.glob(f"{name}*")},
        "processes": {row for row in _command_lines() if f"veil-{name}-" in row},
    }


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


@pytest.fixture
def name(lab_name: str) -> Iterator[str]:
    yield lab_name
    lab("down", "--prefix", lab_name)


def test_up_exec_status_down_leaves_nothing(name: str) -> None:
    before = traces(name)
    lab("up", "line3", "--name", name, "--bare")
    assert lab("list").stdout.split().count(name) == 1
    neighbour = lab("exec", "--name", name, "g1", "ping", "-c1", "-W10", "10.77.0.6")
    assert "1 received" in neighbour.stdout
    master = lab("exec", "--name", name, "c2", "ping", "-c1", "-W10", "10.76.0.1")
    assert "1 received" in master.stdout
    beyond = lab("exec", "--name", name, "c1", "ping", "-c1", "-W1", "10.77.0.6", check=False)
    assert beyond.returncode != 0, "c1 must reach its neighbours only"
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in lab("status", name).stdout.splitlines()]
    assert ["master", "master"] in rows and ["c1", "conflux"] in rows
    lab("down", name)
    assert traces(name) == before
    assert not any(before.values())


def test_underlay_ports_hand_over_whole_frames(name: str) -> None:
    lab("up", "pair", "--name", name, "--bare")
    features = lab("exec", "--name", name, "c1", "ethtool", "-k", "u-c2").stdout
    for feature in ("tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"):
        assert f"{feature}: off" in features


def test_wire_shows_what_flows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wired.yml"
    path.write_text("name: w\nnodes:\n  m: {role: master}\n  a: {role: conflux}\n  b: {role: conflux}\nlinks:\n")
    with path.open("a") as file:
        file.write("  - {ends: [a, b], wire: true}\n")
    lab("up", str(path), "--name", name, "--bare")
    capture = Lab(name).command("wire0", ["tcpdump", "-i", "br0", "-c", "2", "-nl", "--immediate-mode", "icmp"])
    with subprocess.Popen(capture, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr
        while "listening" not in tcpdump.stderr.readline():
            assert tcpdump.poll() is None
        assert "1 received" in lab("exec", "--name", name, "a", "ping", "-c1", "-W10", "10.77.0.2").stdout
        seen, _ = tcpdump.communicate(timeout=PATIENCE)
    assert "10.77.0.1 > 10.77.0.2: ICMP echo request" in seen
    assert "xdp" in lab("exec", "--name", name, "wire0", "ip", "link", "show", "a").stdout


def test_second_up_is_refused_and_changes_nothing(name: str) -> None:
    lab("up", "pair", "--name", name, "--bare")
    again = lab("up", "pair", "--name", name, "--bare", check=False)
    assert again.returncode == 1
    assert f"lab {name!r} exists already" in again.stderr
    assert "1 received" in lab("exec", "--name", name, "c1", "ping", "-c1", "-W10", "10.77.0.2").stdout


def test_a_lab_that_takes_long_holds_up_itself_only(name: str) -> None:
    held = "print('held', flush=True); input()"
    hold = f"from veilnet.lab.journal import Journal\nwith Journal({name!r}).making(): {held}"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            with (
                pytest.raises(LabError, match=f"(?s)does not end: pid {holder.pid}, .*making"),
                Journal(name).removing(0.2),
            ):
                pass
            with pytest.raises(LabError, match="exists already"), Journal(name).making():
                pass
            other = f"{name}b"
            lab("up", "pair", "--name", other, "--bare")
            lab("down", other)
        finally:
            holder.communicate(b"\n")
    lab("down", name)
    with Journal(name).removing(1):  # what is not there can be removed
        pass


def test_wait_for_another_lab_ends_and_names_its_maker(name: str) -> None:
    hold = "from veilnet.lab.journal import exclusive\nwith exclusive():\n    print('held', flush=True)\n    input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LabError, match=f"does not end: pid {holder.pid}, .*exclusive"), exclusive(0.2):
                pass
        finally:
            holder.communicate(b"\n")
    with exclusive(5):
        assert BASE.is_dir()
    assert not Lab(name).journal.exists()


def test_errors_are_sentences(name: str) -> None:
    assert "links[0]" in _up_error(name, "links: [[a, a]]")
    missing = lab("exec", "--name", name, "c1", "true", check=False)
    assert f"no lab {name!r}" in missing.stderr
    lab("up", "pair", "--name", name, "--bare")
    unknown = lab("exec", "--name", name, "c9", "true", check=False)
    assert "no node 'c9'" in unknown.stderr


def _up_error(name: str, links: str) -> str:
    path = Path(f"/tmp/{name}.yml")  # noqa: S108 - the name is ours alone
    path.write_text(f"name: t\nnodes:\n  m: {{role: master}}\n  a: {{role: conflux}}\n{links}\n")
    try:
        result = lab("up", str(path), "--name", name, check=False)
    finally:
        path.unlink()
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.2, 0.3, 0.45])
def test_kill_on_the_way_up_then_down_leaves_nothing(name: str, moment: float) -> None:
    command = [sys.executable, "-m", "veilnet.lab", "up", "line3", "--name", name, "--bare"]
    maker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for((BASE / name / "journal").exists, every=0.002)
        time.sleep(moment)
    finally:
        os.killpg(maker.pid, signal.SIGKILL)
        maker.wait()
    lab("down", name)
    assert not any(traces(name).values())


def test_down_ends_processes_that_ignore_sigterm(name: str) -> None:
    lab("up", "pair", "--name", name, "--bare")
    stubborn = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-m", "veilnet.lab", "exec", "--name", name, "c1", sys.executable, "-c", stubborn]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"on\n"
    number = processes.inode(Lab(name).namespace("c1"))
    assert number
    assert process.pid in processes.inside({number})
    lab("down", name)
    assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
    process.stdout.close()
    assert not any(traces(name).values())


def test_down_removes_pins(name: str) -> None:
    lab("up", "pair", "--name", name, "--bare")
    pins = Path("/sys/fs/bpf/veilnet/test") / Lab(name).instance("c1")
    (pins / "deeper").mkdir(parents=True)
    lab("down", name)
    assert not pins.exists()


def test_no_root_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(LabError, match=r"a lab needs root, .*: use sudo"):
        Lab(name).up("pair")
    assert not Lab(name).journal.exists()


def test_missing_tools_are_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = shutil.which("ip")
    assert tool
    (tmp_path / "ip").symlink_to(tool)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"not installed: nsenter, sysctl, ethtool, nft; `sudo ./run setup`"):
        Lab(name).up("pair")
    assert not Lab(name).journal.exists()


@pytest.mark.parametrize(("topology", "size"), [("diamond", "4k"), ("world12", "12k")])
def test_full_disk_is_said_and_nothing_stays(name: str, topology: str, size: str) -> None:
    """The lab's directory on a file system of a few pages, in a mount namespace of its own. The second fills up when
    eighty namespaces have been made."""
    up = f"{sys.executable} -m veilnet.lab up {topology} --bare --name {name}"
    script = f"mkdir -p {BASE} && mount -t tmpfs -o size={size} none {BASE} && {up}; ls {BASE}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], check=False, capture_output=True, text=True)
    assert "No space left on device; nothing was made" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not any(traces(name).values())


def test_failing_step_removes_what_was_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LabError("no routes today")

    monkeypatch.setattr(net, "build_routes", fail)
    with pytest.raises(LabError, match="no routes today"):
        Lab(name).up("line3")
    assert not any(traces(name).values())


def test_veilnet_that_does_not_start_takes_the_lab_down_and_keeps_the_logs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def start(fleet: Fleet, _say: object) -> None:
        fleet.log("c1").write_text("c1's last words")
        raise LabError("c1 does not start")

    monkeypatch.setattr(Fleet, "start", start)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["lab", "up", "pair", "--name", name])
    assert main() == 1
    assert "lab: c1 does not start" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.rglob("*log")] == ["c1's last words"]
    assert not any(traces(name).values())


@pytest.mark.parametrize(
    "arguments", ["status x", "list", "down --all", "exec x true", "shell x", "top", "pcap a-b", "undo", "fault a"]
)
def test_without_root_every_command_says_so(arguments: str) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "veilnet.lab"]
    done = subprocess.run([*command, *arguments.split()], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "lab: labs are root's, as network namespaces and BPF are: use sudo\n")


def test_half_made_lab_says_so(name: str) -> None:
    Lab(name).journal.create()
    done = lab("status", name, check=False)
    assert f"lab {name!r} is half made; remove it with: lab down {name}" in done.stderr
    lab("down", name)
