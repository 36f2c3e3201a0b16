# SPDX-License-Identifier: Apache-2.0
"""Processes inside a lab's namespaces: start, find, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from veilnet.lab.net import NETNS_DIR, in_namespace


def spawn(namespace: str, command: Sequence[str], log: Path, env: dict[str, str]) -> int:
    """Start a daemon that outlives us; its pid (nsenter becomes it by exec). Its output goes to `log` (0600)."""
    line = [*in_namespace(namespace), *command]
    create = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), create, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawnp(line[0], line, os.environ | env, file_actions=actions, setsid=True)


def inode(namespace: str) -> int | None:
    """Inode of a named namespace, None when it has gone."""
    try:
        return (NETNS_DIR / namespace).stat().st_ino
    except FileNotFoundError:
        return None


def inside(inodes: set[int]) -> list[int]:
    """Pids of the processes whose network namespace is one of these."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # the process ended meanwhile
                if (entry / "ns" / "net").stat().st_ino in inodes:
                    found.append(int(entry.name))
    return found


def end_all(inodes: set[int], grace: float = 3.0) -> None:
    """End every process in these namespaces: SIGTERM, SIGKILL after `grace` seconds; returns when none is left."""
    ended: set[int] = set()
    for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        end = time.monotonic() + seconds
        pids = inside(inodes)
        ended.update(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        while _alive(inodes) and time.monotonic() < end:
            time.sleep(0.02)
    for pid in ended:  # on its way out, if it is our child; a zombie else
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _alive(inodes: set[int]) -> list[int]:
    """Pids inside that are not zombies: a zombie has left its namespace, but says so only when read again."""
    _reap()
    return inside(inodes)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
