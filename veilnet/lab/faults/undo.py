# SPDX-License-Identifier: Apache-2.0
"""Back to what the file says, from whatever state; and a picture of a lab's state to compare.

Nothing here trusts the list of faults: every part is looked at, so that an `undo` after a killed command is complete.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from veilnet.lab import middle, net
from veilnet.lab.faults import links, master, nats, nodes, state
from veilnet.lab.faults.state import State
from veilnet.lab.fleet import Fleet
from veilnet.lab.lab import RUN


def undo(fleet: Fleet) -> None:
    """Raises LabError when a node or the Master does not come back; the faults stay listed then."""
    lab = fleet.lab
    plain = State.of(lab.topology, [])
    for link in lab.topology.every_link:
        if link.emulated:
            links.apply(lab, plain, link)
    nats.undo(lab)
    if nodes.running(fleet):
        _undo_processes(fleet, plain)
    state.clear(lab)


def _undo_processes(fleet: Fleet, plain: State) -> None:
    lab = fleet.lab
    master.unlag(lab)
    for node in lab.topology.members:
        nodes.empty(lab, node.name)
        if all(link.emulated for link in lab.topology.links_of(node.name)):
            nodes.cables(lab, plain, node.name)
        nodes.thaw(fleet, node.name)
    master.start(fleet)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda node: _revive(fleet, plain, node.name), lab.topology.members))


def _revive(fleet: Fleet, plain: State, node: str) -> None:
    """A daemon that lives on the true time is left alone."""
    pid = nodes.daemon(fleet, node)
    if pid is not None and nodes.clock(pid):
        nodes.kill_daemon(fleet, node)
        pid = None
    if pid is None:
        nodes.start(fleet, plain, node)


def picture(fleet: Fleet) -> dict[str, Any]:
    """All that faults change, as the kernel and the processes have it: ports of every namespace with flags, MTU, bridge
    and XDP; wires; NATs; processes; clocks; disks. Two labs of one file and state have equal pictures."""
    lab, topology = fleet.lab, fleet.topology
    members = [node.name for node in topology.members]
    pids = {name: nodes.daemon(fleet, name) for name in [topology.master.name, *members]}
    return {
        "ports": {space: _ports(lab.namespace(space)) for space in net.spaces(topology)},
        "wires": middle.settings(lab, topology),
        "nats": nats.settings(lab),
        "processes": {name: _process(pid) for name, pid in pids.items()},
        "clocks": {name: nodes.clock(pid) for name, pid in pids.items() if pid is not None},
        "disks": {name: (lab.node_directory(name) / nodes.BALLAST).exists() for name in members},
        "daemons' files": {name: (RUN / lab.instance(name)).is_dir() for name in members},
        "faults": state.texts(lab),
    }


def _process(pid: int | None) -> str:
    return "none" if pid is None else "frozen" if nodes.stopped(pid) else "runs"


def _ports(namespace: str) -> dict[str, dict[str, Any]]:
    return {
        port["ifname"]: {
            "flags": sorted(port["flags"]),
            "mtu": port["mtu"],
            "bridge": port.get("master", ""),
            "xdp": port.get("xdp", {}).get("mode", 0),
        }
        for port in net.ports(namespace)
    }
