# SPDX-License-Identifier: Apache-2.0
"""Faults of nodes: power, key daemon, clock, disk."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from veilnet.lab import net
from veilnet.lab.faults import links
from veilnet.lab.faults.state import State
from veilnet.lab.faults.words import NodeFault
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.processes import inode
from veilnet.lab.wire.build import compiled

_SKEW: Final = "VEILNET_SKEW"
BALLAST: Final = "ballast"
_BLOCK: Final = bytes(1 << 16)


def check(fleet: Fleet, fault: NodeFault) -> None:
    """Refuse what can't be done. Raises LabError."""
    lab = fleet.lab
    if fault.verb in {"kill", "restart"}:
        for link in fleet.topology.links_of(fault.node):
            links.check(lab, link)
    elif not running(fleet):
        raise LabError(f"lab {lab.name} is bare: its nodes run nothing; make it without --bare")
    if fault.verb == "disk-full" and not os.path.ismount(lab.node_directory(fault.node)):
        raise LabError(f"{fault.node} has no file system of its own; make the lab with: lab up --wires")
    if fault.verb == "clock":
        _clock(fault.seconds)  # raises where there is no compiler
    if fault.verb in {"freeze", "thaw"} and daemon(fleet, fault.node) is None:
        raise LabError(f"{fault.node} has no key daemon to {fault.verb}: `fault node {fault.node} restart` starts it")


def apply(fleet: Fleet, state: State, fault: NodeFault) -> None:
    """Carry it out; `state` has it already. Raises LabError."""
    node = fault.node
    if fault.verb == "kill":
        power_off(fleet, state, node)
    elif fault.verb == "kill-daemon":
        kill_daemon(fleet, node)
    elif fault.verb in {"freeze", "thaw"}:
        _signal(fleet, node, signal.SIGSTOP if fault.verb == "freeze" else signal.SIGCONT)
    elif fault.verb == "restart":
        power_off(fleet, state, node)
        power_on(fleet, state, node)
    elif fault.verb == "clock":
        kill_daemon(fleet, node)
        if node not in state.off:
            start(fleet, state, node)
    else:
        fill(fleet.lab, node)


def running(fleet: Fleet) -> bool:
    """Whether VeilNet runs in the lab at all."""
    return fleet.state_directory(fleet.topology.master.name).exists()


# ---- power -----------------------------------------------------------------------------------------------------


def power_off(fleet: Fleet, state: State, node: str) -> None:
    """Carriers first: from then on the others see a dead node. Then what it ran goes."""
    off = State(state.links, state.off | {node})
    cables(fleet.lab, off, node)
    if running(fleet):
        kill_daemon(fleet, node)
        role = fleet.topology.nodes[node].role
        fleet.veilnet(node, role, "down", "--instance", fleet.lab.instance(node))


def power_on(fleet: Fleet, state: State, node: str) -> None:
    cables(fleet.lab, state, node)
    if running(fleet):
        start(fleet, state, node)


def cables(lab: Lab, state: State, node: str) -> None:
    """A node's ports, that on the management network too, as `state` says."""
    links.carriers(lab, state, lab.topology.links_of(node))
    way = "down" if node in state.off else "up"
    net.ip(lab.namespace(net.MGMT), f"link set dev m-{node} {way}")


# ---- the key daemon --------------------------------------------------------------------------------------------


def daemon(fleet: Fleet, node: str) -> int | None:
    """Pid of the node's key daemon, or of the Master; None when it does not run."""
    try:
        pid = fleet.pid(node)
        alive = Path(f"/proc/{pid}/ns/net").stat().st_ino == inode(fleet.lab.namespace(node))
    except (OSError, ValueError):  # a pid of one that ended: a zombie has no namespace
        return None
    return pid if alive else None


def kill_daemon(fleet: Fleet, node: str) -> None:
    if daemon(fleet, node) is not None:
        with contextlib.suppress(ProcessLookupError):
            fleet.kill(node)


def start(fleet: Fleet, state: State, node: str) -> None:
    fleet.variables[node] = _clock(state.clocks.get(node, 0.0))
    fleet.start_node(fleet.topology.nodes[node])


def stopped(pid: int) -> bool:
    """Whether a process is frozen (proc(5): state T)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"
    return False


def clock(pid: int) -> str:
    """Seconds off the true time that a process was started with; empty for the true time."""
    mark = f"{_SKEW}=".encode()
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return next((word.removeprefix(mark).decode() for word in words if word.startswith(mark)), "")
    return ""


def _clock(seconds: float) -> Mapping[str, str]:
    """Wall clock only (skew.c). libfaketime will not do: its sleeps fail under Python, a kill -9 leaves its memory."""
    if not seconds:
        return {}
    library = compiled("skew", "-shared", "-fPIC", sources=Path(__file__).parent)
    return {"LD_PRELOAD": str(library), _SKEW: f"{seconds:+.0f}"}


def _signal(fleet: Fleet, node: str, signum: signal.Signals) -> None:
    pid = daemon(fleet, node)
    if pid is None:
        return
    os.kill(pid, signum)
    end = time.monotonic() + 5
    while stopped(pid) != (signum == signal.SIGSTOP) and time.monotonic() < end:
        time.sleep(0.005)


def thaw(fleet: Fleet, node: str) -> None:
    _signal(fleet, node, signal.SIGCONT)


# ---- disk ------------------------------------------------------------------------------------------------------


def fill(lab: Lab, node: str) -> None:
    """Write until nothing fits, down to the last byte."""
    with (lab.node_directory(node) / BALLAST).open("ab", buffering=0) as file:
        for block in (_BLOCK, _BLOCK[:1]):
            try:
                while file.write(block):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def empty(lab: Lab, node: str) -> None:
    (lab.node_directory(node) / BALLAST).unlink(missing_ok=True)
