# SPDX-License-Identifier: Apache-2.0
"""A lab of machines: the Master is a namespace of the host's, every other node a virtual machine that Vagrant makes.

It is a `Lab`: one name, one journal, one `down`. Machines, bridges and libvirt itself are processes and devices in the
lab's management namespace, so that what ends a lab of namespaces ends this one too.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from veilnet.lab import net
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology import MANAGEMENT, Topology
from veilnet.lab.vagrant import box, hypervisor
from veilnet.lab.vagrant.locked import ROOT
from veilnet.lab.vagrant.plan import check, machine, plan

VAGRANT_HOME = Path("/var/cache/veilnet/vagrant")
MASTER_PORT = "v-master"
"""The management bridge's end of the Master's veth."""


class MachineLab(Lab):
    """A lab by name, with machines; `kernel` chooses the box."""

    def __init__(self, name: str, kernel: str = "6.1", say: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(name)
        self.kernel = kernel
        self.say = say
        self.disks = hypervisor.DISKS / name

    def _build(self, topology: Topology) -> None:
        image = box.path(self.kernel)
        hypervisor.require(self.disks)
        if not image.exists():
            raise LabError(f"no box for kernel {self.kernel}; build it with: lab box --kernel {self.kernel}")
        master = topology.master
        self.journal.add("disk", str(self.disks))
        for name in (net.MGMT, master.name):
            self.journal.add("netns", self.namespace(name))
            net.create_namespace(self.namespace(name))
        for node in topology.nodes.values():
            self.node_directory(node.name).mkdir(mode=0o700)
        if not hypervisor.kvm():
            self.say("no KVM here: machines run in software emulation, ten times slower")
        pid = hypervisor.start(self.namespace(net.MGMT), self.disks, self.directory / "libvirtd.log")
        (self.directory / "libvirtd.pid").write_text(str(pid), encoding="ascii")
        self._write(topology)
        self._vagrant("up", "--provider", "libvirt")
        self._ssh_config(topology)
        self._join_master(topology)

    def _write(self, topology: Topology) -> None:
        """The plan, and the tree that the machines get."""
        name = f"veilnet-{self.kernel}"
        (self.directory / "plan.json").write_text(json.dumps(plan(self.name, topology, name)), encoding="utf-8")
        self._add_box(name)
        with tarfile.open(self.directory / "veilnet.tar", "w") as tar:
            for folder in ("veilnet", "bpf"):
                tar.add(ROOT / folder, folder, filter=_without_caches)

    def _add_box(self, name: str) -> None:
        """Vagrant keeps its own copy; a box built since then takes its place."""
        image = box.path(self.kernel)
        stamp, mark = VAGRANT_HOME / f"{name}.stamp", f"{image.stat().st_mtime_ns}"
        if not stamp.exists() or stamp.read_text(encoding="ascii") != mark:
            self._vagrant("box", "add", "--force", "--name", name, str(image))
            stamp.write_text(mark, encoding="ascii")

    def _vagrant(self, *arguments: str) -> None:
        """Raises LabError with the end of what Vagrant said; the whole is in the lab's vagrant.log."""
        VAGRANT_HOME.mkdir(parents=True, exist_ok=True)
        settings = {
            "VAGRANT_HOME": str(VAGRANT_HOME),
            "VAGRANT_CWD": str(ROOT),
            "VAGRANT_DOTFILE_PATH": str(self.directory / "vagrant"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VEILNET_LAB": str(self.directory),
            "VEILNET_KVM": "1" if hypervisor.kvm() else "",
        }
        command = [*hypervisor.inside(self.hypervisor), "vagrant", *arguments]
        path = self.directory / "vagrant.log"
        with path.open("ab") as log:
            start = log.tell()
            done = subprocess.run(command, check=False, stdout=log, stderr=log, env=os.environ | settings)
        if done.returncode:
            said = path.read_bytes()[start:].decode(errors="replace").strip()
            raise LabError(f"vagrant {' '.join(arguments)} ended with {done.returncode}: {said[-2000:]}")

    @property
    def hypervisor(self) -> int:
        """Pid of the lab's libvirtd. Raises LabError when the lab is half made."""
        try:
            return int((self.directory / "libvirtd.pid").read_text(encoding="ascii"))
        except FileNotFoundError as error:
            raise LabError(f"lab {self.name!r} has no libvirt; remove it with: lab down {self.name}") from error

    def _ssh_config(self, topology: Topology) -> None:
        """One Host for each machine, at its address on the management network; a connection is kept for the next."""
        lines = []
        for node in topology.nodes.values():
            if node.role != "master":
                lines += [f"Host {machine(node.name)}", f"  HostName {node.management}"]
        lines += ["Host *", "  User root", f"  IdentityFile {box.BOXES / 'key'}", "  StrictHostKeyChecking no"]
        lines += [f"  UserKnownHostsFile {self.directory / 'known_hosts'}", "  LogLevel ERROR", "  BatchMode yes"]
        lines += [f"  ControlPath {self.directory}/ssh-%h", "  ControlMaster auto", "  ControlPersist 3600"]
        (self.directory / "ssh_config").write_text("\n".join(lines) + "\n", encoding="ascii")

    def _join_master(self, topology: Topology) -> None:
        """The Master's namespace gets a port on the bridge that Vagrant's management network is."""
        home, master = self.namespace(net.MGMT), topology.master
        bridge = self._bridge()
        there = self.namespace(master.name)
        net.ip(
            home,
            f"link add name {MASTER_PORT} type veth peer name {net.MGMT_NIC} netns {there}",
            f"link set dev {MASTER_PORT} master {bridge} up",
            f"address add {MANAGEMENT[-2]}/{MANAGEMENT.prefixlen} dev {bridge}",
        )
        address = f"{master.management}/{MANAGEMENT.prefixlen}"
        net.ip(there, f"address add {address} dev {net.MGMT_NIC}", f"link set dev {net.MGMT_NIC} up")

    def _bridge(self) -> str:
        command = [*hypervisor.inside(self.hypervisor), "virsh", "-q", "net-info", "veil-management"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        return rows["Bridge"].strip()

    def command(self, node: str, command: list[str]) -> list[str]:
        """The command line that runs `command` inside a node, by ssh in a machine."""
        nodes = self.topology.nodes
        if node not in nodes:
            raise LabError(f"no node {node!r} in lab {self.name!r}; nodes: {', '.join(nodes)}")
        if nodes[node].role == "master":
            return [*net.in_namespace(self.namespace(node)), *command]
        return [*self._ssh(node), "--", shlex.join(command)]

    def _ssh(self, node: str, *options: str) -> list[str]:
        ssh = ["ssh", "-F", str(self.directory / "ssh_config"), *options, machine(node)]
        return [*net.in_namespace(self.namespace(net.MGMT)), *ssh]

    def place(self, node: str) -> str:
        here = self.topology.nodes[node]
        return self.namespace(node) if here.role == "master" else f"machine {here.management}"

    def shell(self, node: str) -> list[str]:
        """Of a machine: root's login shell, on a terminal."""
        self.command(node, [])  # raises for an unknown node
        if self.topology.nodes[node].role == "master":
            return super().shell(node)
        return self._ssh(node, "-t")

    @staticmethod
    def check(topology: Topology, *, by_netem: bool = False) -> None:
        check(topology)


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return None if "__pycache__" in info.name else info


def is_one(directory: Path) -> bool:
    """Whether a lab's directory is of a lab of machines."""
    return (directory / "plan.json").exists()
