# SPDX-License-Identifier: Apache-2.0
"""VeilNet's processes in a lab of machines: the same commands as in namespaces, sent by ssh."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from veilnet.lab.fleet import VEILNET, Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.topology import Node
from veilnet.loader import compiled, dataplane

HEADERS = "/opt/veilnet/headers"
"""In every machine; customize.sh puts it there."""
STATE = "/var/lib/veilnet/state"
TOKEN = "/root/token"  # noqa: S105 - a file's name
PATIENCE = 300.0
"""Seconds for a `veilnet` command: bcc compiles for long without KVM."""

_KILL = 'kill -"$1" "$2" && for i in $(seq 100); do kill -0 "$2" 2>/dev/null || exit 0; sleep 0.1; done; exit 1'


class MachineFleet(Fleet):
    """The VeilNet processes of one lab of machines."""

    def program(self, node: str) -> list[str]:
        if node == self.topology.master.name:
            return VEILNET
        return [
            "env",
            f"VEILNET_INSTANCE={self.lab.instance(node)}",
            f"VEILNET_START_TIMEOUT={PATIENCE:.0f}",
            "veilnet",
        ]

    def veilnet(self, node: str, *arguments: str, timeout: float = PATIENCE) -> str:
        return super().veilnet(node, *arguments, timeout=timeout)

    def state_directory(self, node: str) -> Path:
        return super().state_directory(node) if node == self.topology.master.name else Path(STATE)

    def start_nodes(self) -> None:
        self._give_programs()
        super().start_nodes()

    def _give_programs(self) -> None:
        """Compile once, here: software emulation takes a minute of each machine for it. Their kernels verify and load.

        A machine whose bcc is another finds nothing that fits, and compiles.
        """
        first = self.topology.members[0].name
        release = self._run(first, ["uname", "-r"]).stdout.decode().strip()
        files = dataplane.compile_for(compiled.Machine(release, HEADERS), f"{self.lab.name}-compile")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(text), 0o600
                tar.addfile(info, io.BytesIO(text))
        unpack = ["sh", "-c", f"umask 077; mkdir -p {compiled.CACHE}; tar -xC {compiled.CACHE}"]
        for node in self.topology.members:
            done = self._run(node.name, unpack, packed.getvalue())
            if done.returncode:
                raise LabError(f"{node.name}: {done.stderr.decode().strip()}")

    def start_node(self, node: Node) -> None:
        """Enrol with a token that was never on a command line, or come up again."""
        arguments = ["--state-dir", STATE, "--instance", self.lab.instance(node.name), *self.nics(node)]
        start = time.monotonic()
        first = self._run(node.name, ["test", "-e", f"{STATE}/node.json"]).returncode != 0
        if first:
            token = self.token(node.name).read_bytes()
            self._run(node.name, ["sh", "-c", f"umask 077; mkdir -p {STATE}; cat >{TOKEN}"], token)
            arguments += ["--token", f"@{TOKEN}"]
        self.veilnet(node.name, node.role, "up", *arguments)
        if first:
            self.enrol_ms[node.name] = (time.monotonic() - start) * 1000

    def _run(self, node: str, command: list[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.lab.command(node, command), check=False, capture_output=True, input=given)

    def status(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.veilnet(node, self.topology.nodes[node].role, "status", "--json"))
        return found

    def wait_connected(self, deadline: float = PATIENCE) -> None:
        super().wait_connected(deadline)

    def pid(self, node: str) -> int:
        """The Master's process here, or a key daemon inside its machine."""
        if node == self.topology.master.name:
            return super().pid(node)
        done = self._run(node, ["cat", f"/run/veilnet/{self.lab.instance(node)}/keyd.pid"])
        if done.returncode:
            raise LabError(f"{node}: no key daemon: {done.stderr.decode().strip()}")
        return int(done.stdout)

    def kill(self, node: str, signum: signal.Signals = signal.SIGKILL) -> None:
        if node == self.topology.master.name:
            super().kill(node, signum)
            return
        if self._run(node, ["sh", "-c", _KILL, "kill", str(signum.value), str(self.pid(node))]).returncode:
            raise LabError(f"{node}: the key daemon lives on after {signum.name}")
