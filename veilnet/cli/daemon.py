# SPDX-License-Identifier: Apache-2.0
"""The key daemon as a process: start it, find it, ask it, stop it.

/run/veilnet/<instance>/keyd.pid      its pid
/run/veilnet/<instance>/control.sock  JSON lines: {"command": ...} in, one object out ({"error": ...} on failure)
<state dir>/keyd.log                  its output, mode 0600
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from veilnet.cli.output import Exit, fail
from veilnet.files import private_directory, write_private

RUN: Final = Path("/run/veilnet")
START_TIMEOUT: Final = float(os.environ.get("VEILNET_START_TIMEOUT", "15"))
STOP_TIMEOUT: Final = 10.0
ANSWER_MAX: Final = 16 * 1024 * 1024


def run_dir(instance: str) -> Path:
    return RUN / instance


def start(instance: str, state_dir: Path, arguments: Sequence[str]) -> int:
    """Start the daemon and wait until it answers; its pid."""
    log = state_dir / "keyd.log"
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    said_before = os.fstat(handle).st_size
    try:
        process = subprocess.Popen(
            command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    finally:
        os.close(handle)
    claim(instance, process.pid)
    _wait_for_answer(instance, process, log, said_before)
    return process.pid


def claim(instance: str, pid: int) -> None:
    """Write the pid file."""
    private_directory(run_dir(instance))
    write_private(run_dir(instance) / "keyd.pid", f"{pid}\n".encode())


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "veilnet.keyd", *arguments]  # -P: root must not import from where it stands


def _why_silent(log: Path) -> str:
    return "no output" if os.statvfs(log).f_bavail else f"no output, as there is no space left in {log.parent}"


def _wait_for_answer(instance: str, process: subprocess.Popen[bytes], log: Path, said_before: int) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        if process.poll() is not None:
            lines = log.read_bytes()[said_before:].decode(errors="replace").splitlines()
            last = " | ".join(lines[-3:]) or _why_silent(log)
            fail(f"the key daemon ended at once (exit code {process.returncode}): {last}", f"the whole log: {log}")
        with contextlib.suppress(OSError, ValueError):
            _exchange(instance, {"command": "status"}, 1.0)
            return
        time.sleep(0.05)
    fail(
        f"the key daemon did not answer within {START_TIMEOUT:.0f} s",
        f"its log: {log}; where a start takes longer, set VEILNET_START_TIMEOUT",
        Exit.UNREACHABLE,
    )


def ask(instance: str, request: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Answer of the running daemon to one command."""
    try:
        answer = _exchange(instance, request, timeout)
    except PermissionError:
        fail(f"{run_dir(instance)} is not readable for this user", "run as root", Exit.NOT_PERMITTED)
    except OSError as error:
        remedy = "start it with `veilnet guardian up` or `veilnet conflux up`, or name another --instance"
        fail(f"no key daemon answers for instance {instance}: {error}", remedy, Exit.UNREACHABLE)
    except ValueError as error:
        fail(f"the key daemon's answer is not JSON: {error}")
    if "error" in answer:
        fail(f"{request['command']}: {answer['error']}")
    return answer


def _exchange(instance: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(run_dir(instance) / "control.sock"))
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = connection.makefile("rb").readline(ANSWER_MAX)
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return answer


def running_pid(instance: str) -> int | None:
    """Pid from the pid file, if that process is this instance's key daemon."""
    try:
        pid = int((run_dir(instance) / "keyd.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"veilnet.keyd" in words and instance.encode() in words else None


def stop(instance: str) -> bool:
    """End the daemon: SIGTERM, then SIGKILL; False if none ran."""
    pid = running_pid(instance)
    if pid is not None:
        for number, seconds in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, STOP_TIMEOUT)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if _gone(pid, seconds):
                break
        else:
            fail(f"the key daemon, pid {pid}, does not end", "look at it with ps")
    for name in ("keyd.pid", "control.sock"):
        (run_dir(instance) / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or something else stands in it
        run_dir(instance).rmdir()
    return pid is not None


def _gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False
