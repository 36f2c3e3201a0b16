# SPDX-License-Identifier: Apache-2.0
"""What a tunnel under test looks like to the measurements: two hosts, and the address that reaches the second."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.netrig import NETNS_DIR


@dataclass(frozen=True)
class Pair:
    """A tunnel that is up: namespaces of both ends, and the far end's address inside the tunnel."""

    near: str
    far: str
    address: str
    daemons: tuple[int, ...] = ()
    """Process ids of key daemons whose memory is worth a row."""

    def run(self, namespace: str, command: list[str], timeout: float = 60.0) -> str:
        """Output of a command in one end's namespace. CalledProcessError if it fails."""
        return subprocess.run(
            [*prefix(namespace), *command], check=True, capture_output=True, text=True, timeout=timeout
        ).stdout


Tunnel = Callable[[bool], AbstractContextManager[Pair]]
"""Brings a tunnel up over an underlay with (True) or without segmentation offload, and takes it down."""


def prefix(namespace: str) -> list[str]:
    return ["nsenter", f"--net={NETNS_DIR / namespace}", "--"]


@contextmanager
def daemon(namespace: str, command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a namespace, ended with the context."""
    with log.open("wb") as out:
        process = subprocess.Popen([*prefix(namespace), *command], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(0.1)


def answers(pair: Pair) -> bool:
    ping = [*prefix(pair.near), "ping", "-c", "1", "-W", "1", pair.address]
    return subprocess.run(ping, check=False, capture_output=True).returncode == 0
