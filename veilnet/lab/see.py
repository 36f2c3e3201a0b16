# SPDX-License-Identifier: Apache-2.0
"""`lab status`, `graph`, `pcap`, `top` and `shell`."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from veilnet import contract
from veilnet.lab import middle, net
from veilnet.lab.faults import nodes, state
from veilnet.lab.fleet import Fleet
from veilnet.lab.graph import draw
from veilnet.lab.journal import LabError, labs
from veilnet.lab.lab import DEFAULT, Lab
from veilnet.lab.named import any_fleet, namespace_fleet
from veilnet.lab.topology import load
from veilnet.lab.topology.model import Topology
from veilnet.lab.vagrant.fleet import MachineFleet

_EVERY = 1.0
"""Seconds between two pictures of a live table."""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, run, text in (
        ("status", _status, "nodes, roles, processes, faults in force"),
        ("top", _top, "frames and bits a second of links, frames a second and drops of nodes"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("name", nargs="?", default=DEFAULT, help="of the lab (default: lab)")
        parser.set_defaults(run=run)
        if name == "status":
            parser.add_argument("--watch", action="store_true", help="until Ctrl-C")
    graph_ = commands.add_parser("graph", help="a picture of a lab or topology")
    graph_.add_argument("what", help="a lab that is up, or a topology by name or path")
    graph_.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.svg|FILE.png")
    graph_.set_defaults(run=graph)
    pcap = commands.add_parser("pcap", help="record the frames of a link with tcpdump, until Ctrl-C")
    pcap.add_argument("--name", default=DEFAULT, help="of the lab (default: lab)")
    pcap.add_argument("link", help="A-B; frames are seen at B's end, after what the wire did to those from A")
    pcap.add_argument("-o", "--output", type=Path, metavar="FILE.pcap", help="default: as text on the terminal")
    pcap.add_argument("filter", nargs="*", help="as tcpdump takes it")
    pcap.set_defaults(run=_pcap)
    shell = commands.add_parser("shell", help="a shell inside a node")
    shell.add_argument("--name", default=DEFAULT, help="of the lab (default: lab)")
    shell.add_argument("node")
    shell.set_defaults(run=_shell)


# ---- status and top --------------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    fleet = any_fleet(arguments.name)
    return _live(lambda: status_table(fleet), once=not arguments.watch)


def _top(arguments: argparse.Namespace) -> int:
    fleet = any_fleet(arguments.name)
    before = [counts(fleet)]

    def table() -> Group:
        time.sleep(_EVERY)
        now = counts(fleet)
        last, before[0] = before[0], now
        return Group(*rate_tables(last, now))

    return _live(table, once=not Console().is_terminal)


def _live(table: Callable[[], Table | Group], *, once: bool) -> int:
    if once:
        Console().print(table())
        return 0
    with suppress(KeyboardInterrupt), Live(table(), auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY)
            live.update(table(), refresh=True)
    return 0


def status_table(fleet: Fleet) -> Table:
    lab = fleet.lab
    listed = state.texts(lab)
    caption = "faults: " + "; ".join(listed[-8:]) if listed else "no faults"
    table = Table("node", "role", "where", "daemon", "processes", title=f"lab {lab.name}{_wires(lab)}", caption=caption)
    for node, role, pids in lab.nodes():
        if fleet.topology.nodes[node].light:
            continue  # hundreds
        table.add_row(node, role, lab.place(node), _daemon(fleet, node), " ".join(map(str, pids)) or "none")
    if light := fleet.topology.light:
        connected = sum(facts["connected"] for facts in fleet.light())
        state_ = f"{connected} connected"
        table.add_row(f"{light[0].name} ...", f"{len(light)} light", lab.place(light[0].name), state_, "")
    return table


def _wires(lab: Lab) -> str:
    if not any(link.emulated for link in lab.topology.wired):
        return ""
    return ", links by the kernel's netem" if lab.by_netem else ", links by the lab's emulator"


def _daemon(fleet: Fleet, node: str) -> str:
    if fleet.topology.nodes[node].role not in {"master", "guardian", "conflux"}:
        return ""
    if isinstance(fleet, MachineFleet) and node != fleet.topology.master.name:
        return _daemon_of_machine(fleet, node)
    pid = nodes.daemon(fleet, node)
    if pid is None:
        return "none"
    skew = nodes.clock(pid)
    return ("frozen" if nodes.stopped(pid) else "runs") + (f", clock {skew} s" if skew else "")


def _daemon_of_machine(fleet: Fleet, node: str) -> str:
    try:
        return f"runs, pid {fleet.pid(node)} in it"
    except LabError:
        return "none, or the machine does not answer"


Counts = dict[str, dict[str, int]]


def counts(fleet: Fleet) -> Counts:
    """Counters by `link a->b` and `node n`, with `at`: nanoseconds."""
    found: Counts = {"at": {"ns": time.monotonic_ns()}}
    found |= {f"link {name}": row for name, row in middle.counters(fleet.lab, fleet.topology).items()}
    for node in fleet.topology.members:
        found[f"node {node.name}"] = {}
        with suppress(LabError):
            found[f"node {node.name}"] = dict(fleet.status(node.name)["data_plane"])
    return found


def rate_tables(before: Counts, now: Counts) -> list[Table]:
    seconds = (now["at"]["ns"] - before["at"]["ns"]) / 1e9
    wires = any(name.startswith("link ") for name in now)
    hint = None if wires else "links are counted by their wires: lab up --wires"
    links = Table("link", "frames/s", "Mbit/s", "dropped/s", caption=hint)
    members = Table("node", "frames/s", "dropped/s")
    for name, row in now.items():
        rates = {key: (value - before.get(name, {}).get(key, 0)) / seconds for key, value in row.items()}
        kind, _, label = name.partition(" ")
        if kind == "link":
            frames, bits = rates.pop("frames"), rates.pop("bits")
            links.add_row(label, f"{frames:.0f}", f"{bits / 1e6:.2f}", _reasons(rates))
        elif kind == "node" and not row:
            members.add_row(label, "no answer", "")
        elif kind == "node":
            drops = {key: rate for key, rate in rates.items() if contract.REASON_CLASS[key] == "DROP"}
            passed = sum(rate for key, rate in rates.items() if contract.REASON_CLASS[key] == "OK")
            members.add_row(label, f"{passed:.0f}", _reasons(drops))
    return [links, members]


def _reasons(rates: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items() if rate > 0)


# ---- the rest --------------------------------------------------------------------------------------------------


def graph(arguments: argparse.Namespace) -> int:
    draw(_topology(arguments.what), arguments.output)
    return 0


def _topology(what: str) -> Topology:
    return Lab.named(what).topology if os.geteuid() == 0 and what in labs() else load(what)


def _pcap(arguments: argparse.Namespace) -> NoReturn:
    lab = namespace_fleet(arguments.name, "pcap is").lab
    command = pcap_command(lab, arguments.link, arguments.output)
    if shutil.which("tcpdump") is None:
        raise LabError("tcpdump is not installed: run `sudo ./run setup`")
    os.execvp(command[0], [*command, *arguments.filter])  # noqa: S606 - no shell is what is wanted


def pcap_command(lab: Lab, name: str, output: Path | None) -> list[str]:
    """tcpdump at the wire's port of the link's second end, or at the node's NIC of a bare link. Raises LabError."""
    first, _, second = name.partition("-")
    try:
        link = lab.topology.link(first, second)
    except KeyError:
        names = ", ".join(each.name for each in lab.topology.every_link)
        raise LabError(f"no link {name}; links: {names}") from None
    where, device = (link.wire, second) if link.wire else (second, net.nic(first))
    if second not in lab.topology.nodes and not link.wire:
        where, device = first, net.nic(second)
    words = ["-w", str(output), "-U"] if output else ["-n", "-l"]
    return [*net.in_namespace(lab.namespace(where)), "tcpdump", "-Z", "root", "-i", device, *words]


def _shell(arguments: argparse.Namespace) -> NoReturn:
    fleet = any_fleet(arguments.name)
    command = fleet.lab.shell(arguments.node)
    os.environ.update(fleet.environment(arguments.node))
    os.execvp(command[0], command)  # noqa: S606 - a shell is what is wanted
