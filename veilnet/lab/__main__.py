# SPDX-License-Identifier: Apache-2.0
"""`./run lab`: labs of network namespaces by hand."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

from veilnet.lab import net, see, trouble
from veilnet.lab.check import check
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError, labs
from veilnet.lab.lab import DEFAULT, Lab, down_all
from veilnet.lab.named import any_fleet
from veilnet.lab.topology import TopologyError, builtin
from veilnet.lab.vagrant import box
from veilnet.lab.vagrant.fleet import MachineFleet
from veilnet.lab.vagrant.lab import MachineLab


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if os.geteuid() != 0 and arguments.run not in ROOTLESS:
            raise LabError("labs are root's, as network namespaces and BPF are: use sudo")
        return int(arguments.run(arguments))
    except (LabError, TopologyError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lab: {error.filename or 'system call'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Labs of network namespaces or machines that run VeilNet.")
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="make a lab and start VeilNet in it")
    up.add_argument("topology", nargs="?", default="pair", help=f"{', '.join(builtin())} or a path (default: pair)")
    up.add_argument("--name", default=DEFAULT, help="of the lab (default: lab)")
    up.add_argument("--wires", action="store_true", help="every link through an emulator, so that faults reach it")
    up.add_argument("--netem", action="store_true", help="links by the kernel's netem, not by the lab's own emulator")
    up.add_argument("--bare", action="store_true", help="namespaces and links only")
    up.add_argument("--backend", choices=["netns", "vagrant"], default="netns", help="namespaces, or machines")
    up.add_argument("--kernel", choices=list(box.KERNELS), default="6.1", help="of machines (default: 6.1)")
    up.set_defaults(run=_up)
    boxes = commands.add_parser("box", help="build the box that machines are made from, out of Debian's packages")
    boxes.add_argument("--kernel", choices=list(box.KERNELS), default="6.1", help="(default: 6.1)")
    boxes.set_defaults(run=_box)
    run = commands.add_parser("exec", help="run a command inside a node")
    run.add_argument("--name", default=DEFAULT, help="of the lab (default: lab)")
    run.add_argument("node")
    run.add_argument("command", nargs=argparse.REMAINDER, help="and its arguments")
    run.set_defaults(run=_exec)
    check_ = commands.add_parser("check", help="ping every node from every other, at the path's MTU and above")
    check_.add_argument("lab", help="a lab that is up, or a topology to bring up for it, by name or path")
    check_.add_argument("--verbose", action="store_true", help="show every pair, not only those that differ")
    check_.set_defaults(run=_check)
    down = commands.add_parser("down", help="remove a lab and every trace of it")
    down.add_argument("name", nargs="?", default=DEFAULT, help="of the lab (default: lab)")
    down.add_argument("--all", action="store_true", help="remove all labs")
    down.add_argument("--prefix", help="remove the labs whose names start so")
    down.set_defaults(run=_down)
    trouble.add_parsers(commands)
    see.add_parsers(commands)
    commands.add_parser("list", help="labs that exist").set_defaults(run=_list)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    if arguments.backend == "vagrant":
        if arguments.wires:
            raise LabError("--wires is for namespaces: machines have no emulator between them")
        if arguments.netem:
            raise LabError("--netem is for namespaces: between machines there are bare bridges")
        return _up_machines(arguments)
    lab = Lab(arguments.name)
    lab.up(arguments.topology, faultable=arguments.wires, by_netem=arguments.netem)
    spaces = net.spaces(lab.topology)
    print(f"lab {lab.name}: {len(lab.topology.nodes)} nodes, {len(spaces)} namespaces {lab.namespace('*')}")
    if not arguments.bare:
        _start(Fleet(lab))
    return 0


def _start(fleet: Fleet) -> None:
    """VeilNet in a lab that `up` has made; when that fails nothing stays."""
    try:
        fleet.start(print)
    except BaseException as error:
        print(f"lab: {fleet.lab.name} is taken down again", file=sys.stderr)
        if isinstance(error, LabError | OSError):
            _keep_logs(fleet.lab)
        fleet.lab.down()
        raise


def _keep_logs(lab: Lab) -> None:
    """What the nodes said, for whoever has to find out why they did not start."""
    with contextlib.suppress(OSError):
        logs = [log for log in lab.directory.rglob("*log") if log.stat().st_size]
        if not logs:
            return
        kept = Path(tempfile.mkdtemp(prefix=f"veilnet-lab-{lab.name}-"))
        for log in logs:
            shutil.copy(log, kept / "-".join(log.relative_to(lab.directory).parts))
        print(f"lab: logs are kept in {kept}", file=sys.stderr)


def _up_machines(arguments: argparse.Namespace) -> int:
    lab = MachineLab(arguments.name, arguments.kernel, print)
    lab.up(arguments.topology)
    print(f"lab {lab.name}: {len(lab.topology.nodes) - 1} machines with kernel {lab.kernel}, the Master in a namespace")
    if not arguments.bare:
        _start(MachineFleet(lab))
    return 0


def _box(arguments: argparse.Namespace) -> int:
    box.build(arguments.kernel, print)
    return 0


def _exec(arguments: argparse.Namespace) -> NoReturn:
    fleet, node = any_fleet(arguments.name), arguments.node
    command = fleet.lab.command(node, arguments.command) if arguments.command else fleet.lab.shell(node)
    os.environ.update(fleet.environment(node))
    os.execvp(command[0], command)  # noqa: S606 - the command is the caller's own


def _check(arguments: argparse.Namespace) -> int:
    if arguments.lab in labs():
        return _verdict(Lab.named(arguments.lab), arguments.verbose)
    lab = Lab(f"chk{os.getpid()}")
    lab.up(arguments.lab)
    try:
        return _verdict(lab, arguments.verbose)
    finally:
        lab.down()


def _verdict(lab: Lab, verbose: bool) -> int:
    verdicts = check(lab)
    wrong = [verdict for verdict in verdicts if not verdict.good]
    for verdict in verdicts if verbose else wrong:
        print(verdict)
    reached = sum(verdict.expectation.mtu is not None for verdict in verdicts)
    counts = f"{reached} to be reached, {len(verdicts) - reached} not"
    print(f"{lab.topology.name}: {len(verdicts)} paths ({counts}), {len(wrong)} other than the file says")
    return 1 if wrong else 0


def _down(arguments: argparse.Namespace) -> int:
    if arguments.all or arguments.prefix:
        for name in down_all(arguments.prefix or ""):
            print(f"removed: {name}")
        return 0
    Lab.named(arguments.name).down()
    print(f"removed: {arguments.name}")
    return 0


def _list(_arguments: argparse.Namespace) -> int:
    for name in labs():
        print(name)
    return 0


ROOTLESS: Final = (_up, _box, see.graph)
"""Say themselves what they need, or need nothing."""

if __name__ == "__main__":
    raise SystemExit(main())
