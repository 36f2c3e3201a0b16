# SPDX-License-Identifier: Apache-2.0
"""VeilNet in a lab: a Master, every node enrolled with a token of its own and up. Nodes through the
`veilnet` command, the Master through its API."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from veilnet.cli.daemon import ask
from veilnet.cli.output import CliError
from veilnet.lab.journal import LabError
from veilnet.lab.lab import RUN, Lab
from veilnet.lab.master import Administrator
from veilnet.lab.net import LIGHT, NETNS_DIR, nic
from veilnet.lab.processes import spawn
from veilnet.lab.topology import Node

VEILNET = [str(Path(sys.executable).parent / "veilnet")]
MASTER_PORT = 8443
REALM = "lab"
OVERLAY = "10.90.0.0/16"
LIGHT_PROCESSES = os.cpu_count() or 1

# Waits inside the namespace, in one process, until a TCP port accepts.
_WAIT = """
import socket, sys, time
end = time.monotonic() + 90
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        break
    except OSError:
        if time.monotonic() > end:
            raise SystemExit(1)
        time.sleep(0.05)
"""


class Fleet:
    """The VeilNet processes of one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topology = lab.topology
        self._admin = lab.directory / "admin-token"
        self.variables: dict[str, Mapping[str, str]] = {}
        """By node: what `veilnet` inside it has in its environment besides."""
        self.enrol_ms: dict[str, float] = {}
        """From the start of a node's process to its enrolment on disk, of the nodes that this object enrolled."""

    # ---- the veilnet command --------------------------------------------------------------------------------------

    def veilnet(self, node: str, *arguments: str, timeout: float = 180.0) -> str:
        """Run `veilnet ARGUMENTS` inside a node; its standard output. Raises LabError with what it said."""
        command = self.lab.command(node, [*self.program(node), *arguments])
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | self.environment(node),
        )
        if done.returncode:
            msg = f"{node}: `veilnet {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
            raise LabError(msg)
        return done.stdout

    def program(self, _node: str) -> list[str]:
        """The `veilnet` command as it is called inside a node."""
        return VEILNET

    def nics(self, node: Node) -> list[str]:
        """The options that name a member's NICs: what leads to hosts alone is no underlay."""
        hosts = {name for name, other in self.topology.nodes.items() if other.role == "host"}
        fars = [far for far in self.topology.neighbours(node.name) if far not in hosts]
        return [word for far in fars for word in ("--nic", nic(far))]

    def admin(self, *arguments: str) -> str:
        return self.veilnet(self.topology.master.name, *arguments, "--admin-token", f"@{self._admin}")

    def environment(self, node: str) -> dict[str, str]:
        """What makes `veilnet` inside a node speak of that node."""
        return {
            "VEILNET_INSTANCE": self.lab.instance(node),
            "TMPDIR": str(self.lab.temporary),
            "VEILNET_START_TIMEOUT": "120",  # nodes start beside each other, on a machine that others may use, too
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            **self.variables.get(node, {}),
        }

    def state_directory(self, node: str) -> Path:
        return self.lab.node_directory(node) / "state"

    def log(self, node: str) -> Path:
        return self.lab.node_directory(node) / "log"

    # ---- start and stop -------------------------------------------------------------------------------------------

    def start(self, say: Callable[[str], None]) -> None:
        """Master, realm, tokens, nodes, edges. `say` gets a line for each step."""
        master = self.topology.master
        say(f"Master on https://{master.management}:{MASTER_PORT}")
        self.start_master()
        say(f"realm {REALM} ({OVERLAY}), a token for each node, {len(self.topology.edges)} edges")
        with self.administrator() as admin:
            admin.make_realm(REALM, OVERLAY, 0 if self._direct else 1)
            admin.make_tokens(REALM, {self.token(node.name): node for node in self._enrolling})
            self.start_nodes()
            self._start_light(say)
            admin.make_edges(REALM, self.topology.edges)
        self.wait_connected()
        for node in self.topology.members:
            say(f"{node.name}: {node.role} up, {self.overlay_address(node.name)}")

    def administrator(self) -> Administrator:
        """For calls to the Master; a context manager."""
        return Administrator(NETNS_DIR / self.lab.namespace(self.topology.master.name), self._admin)

    @property
    def _direct(self) -> bool:
        """Whether two Confluxes are neighbours."""
        roles = {name: node.role for name, node in self.topology.nodes.items()}
        return any({roles[end] for end in edge} == {"conflux"} for edge in self.topology.edges)

    @property
    def _enrolling(self) -> list[Node]:
        return [*self.topology.members, *self.topology.light]

    def start_master(self) -> None:
        """Make the Master's state once, serve, and wait until it accepts connections."""
        master = self.topology.master
        state = self.state_directory(master.name)
        url = f"https://{master.management}:{MASTER_PORT}"
        if not state.exists():
            self.veilnet(
                master.name,
                "master",
                "init",
                "--url",
                url,
                "--state-dir",
                str(state),
                "--admin-token-file",
                str(self._admin),
            )
        pid = spawn(
            self.lab.namespace(master.name),
            [*VEILNET, "master", "serve", "--state-dir", str(state)],
            self.log(master.name),
            self.environment(master.name),
        )
        (self.lab.node_directory(master.name) / "pid").write_text(str(pid), encoding="ascii")
        wait = self.lab.command(master.name, [sys.executable, "-c", _WAIT, str(master.management), str(MASTER_PORT)])
        if subprocess.run(wait, check=False).returncode:
            msg = f"Master does not accept connections after 90 s; its log: {self.log(master.name)}"
            raise LabError(msg)

    def token(self, node: str) -> Path:
        return self.lab.node_directory(node) / "token"

    def start_nodes(self) -> None:
        """All members, two at a time: compiling their programs is what takes the time."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self.start_node, self.topology.members))

    def _start_light(self, say: Callable[[str], None]) -> None:
        """All light nodes, in a process for each CPU; returns when every one is on its channel."""
        nodes = self.topology.light
        reports = []
        for index in range(min(LIGHT_PROCESSES, len(nodes))):
            share = [f"{node.name}={node.management}" for node in nodes[index::LIGHT_PROCESSES]]
            reports.append((self.lab.directory / f"light{index}.json", len(share)))
            command = [sys.executable, "-P", "-m", "veilnet.lab.light", str(reports[-1][0]), str(self.lab.directory)]
            log = self.lab.directory / f"light{index}.log"
            spawn(self.lab.namespace(LIGHT), [*command, *share], log, self.environment(LIGHT))
        if reports:
            _wait_light(reports)
            say(f"{len(nodes)} light nodes enrolled and connected")

    def light(self) -> list[dict[str, Any]]:
        """What the processes of the light nodes report."""
        return [json.loads(path.read_bytes()) for path in sorted(self.lab.directory.glob("light*.json"))]

    def start_node(self, node: Node) -> None:
        """Bring a node up, or up again after its daemon was killed: `veilnet guardian up` or `conflux up`."""
        arguments = ["--state-dir", str(self.state_directory(node.name)), "--instance", self.lab.instance(node.name)]
        arguments += self.nics(node)
        enrolled = self.state_directory(node.name) / "node.json"
        first = not enrolled.exists()
        if first:
            arguments += ["--token", f"@{self.token(node.name)}"]
        start = time.time()
        self.veilnet(node.name, node.role, "up", *arguments)
        if first:
            self.enrol_ms[node.name] = (enrolled.stat().st_mtime - start) * 1000

    def pid(self, node: str) -> int:
        """The Master's process, or a node's key daemon."""
        file = self.lab.node_directory(node) / "pid"
        if node != self.topology.master.name:
            file = RUN / self.lab.instance(node) / "keyd.pid"
        return int(file.read_text(encoding="ascii"))

    def kill(self, node: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Signal the Master or a node's daemon and wait until it is gone."""
        pid = self.pid(node)
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signum)
            if not _gone(handle, 10.0):
                msg = f"{node}: process {pid} lives on after {signum.name}"
                raise LabError(msg)
        finally:
            os.close(handle)

    # ---- what the nodes say ---------------------------------------------------------------------------------------

    def status(self, node: str) -> dict[str, Any]:
        """What `veilnet status --json` shows of a node. Raises LabError if its daemon does not answer."""
        try:
            return ask(self.lab.instance(node), {"command": "status"})
        except CliError as error:
            raise LabError(f"{node}: {error}") from error

    def wait_connected(self, deadline: float = 90.0) -> None:
        """Until every member knows all of the directory that it may see."""
        end = time.monotonic() + deadline
        for node in self.topology.members:
            wanted = self.may_know(node)
            while (known := self.status(node.name)["known"]) != wanted:
                if time.monotonic() > end:
                    msg = f"{node.name} knows {known} after {deadline:.0f} s, not {wanted}"
                    raise LabError(msg)
                time.sleep(0.1)

    def may_know(self, node: Node) -> dict[str, int]:
        """How many nodes and edges, in a realm without policy (docs/protocol.md, ID7)."""
        edges = [set(ends) for ends in self.topology.edges]
        roles = {node.role, "guardian"}
        seen = {node.name, *(other.name for other in self._enrolling if other.role in roles)}
        seen |= {name for ends in edges if node.name in ends for name in ends}
        return {"nodes": len(seen), "edges": sum(ends <= seen for ends in edges)}

    def overlay_address(self, node: str) -> str:
        return str(self.status(node)["node"]["ipv4"])


def _wait_light(reports: list[tuple[Path, int]], patience: float = 300.0) -> None:
    """Until as many nodes as each process has are connected. Raises LabError with what the nodes say."""
    end = time.monotonic() + patience
    for path, count in reports:
        while True:
            facts: dict[str, Any] = {"connected": 0, "errors": {}}
            if path.exists():
                facts = json.loads(path.read_bytes())
            if facts["connected"] == count:
                break
            if time.monotonic() > end:
                some = "; ".join(f"{name}: {text}" for name, text in list(facts["errors"].items())[:3])
                msg = f"{facts['connected']} of {count} light nodes of {path.stem} are connected: {some or 'no error'}"
                raise LabError(msg)
            time.sleep(0.2)


def _gone(handle: int, seconds: float) -> bool:
    """Whether the process of a pidfd ends within `seconds`; reaps it when it is our child."""
    ready, _, _ = select.select([handle], [], [], seconds)
    if ready:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
    return bool(ready)
