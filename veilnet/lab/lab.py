# SPDX-License-Identifier: Apache-2.0
"""One lab: namespaces and links from a topology, up and down, whatever happened in between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from veilnet.lab import middle, net, processes
from veilnet.lab.journal import Journal, LabError, exclusive, labs
from veilnet.lab.topology import Topology, parse, read

PIN_BASE = Path("/sys/fs/bpf")
DEFAULT = "lab"
"""Name of a lab that was given none."""
TOOLS = ("ip", "nsenter", "sysctl", "ethtool", "nft")
NODE_DISK = 16 << 20
"""Bytes of a member's file system in a lab for faults."""
RUN = Path("/run/veilnet")  # pid files and control sockets of key daemons, by instance


class Lab:
    """A lab by name. `up` makes it, `down` removes every trace; both may be repeated."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.journal = Journal(name)
        self.directory = self.journal.directory
        self.temporary = self.directory / "tmp"
        """For the temporary files of processes that may be killed."""

    @classmethod
    def named(cls, name: str) -> Lab:
        """An existing lab. Raises LabError with the names that there are."""
        lab = cls(name)
        if not lab.journal.exists():
            with exclusive():  # what a lab leaves that was killed before it began
                pass
            known = ", ".join(labs()) or "none"
            msg = f"no lab {name!r}; labs: {known}"
            if name == DEFAULT and labs():
                msg += "; say which: `status NAME` and the like, `--name NAME` of exec, shell, pcap and fault"
            raise LabError(msg)
        return lab

    @cached_property
    def topology(self) -> Topology:
        """As the file said when the lab was made. Raises LabError while there is none: a lab killed on its way up."""
        path = self.directory / "topology.yml"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise LabError(f"lab {self.name!r} is half made; remove it with: lab down {self.name}") from error
        topology = parse(text, str(path), lambda _: (self.directory / "matrix").read_bytes())
        options = self._options()
        return _with(topology, faultable=options["faultable"], seed=options["seed"])

    @cached_property
    def by_netem(self) -> bool:
        """Whether the kernel's netem stands where else the emulator does."""
        return bool(self._options().get("netem"))

    def _options(self) -> dict[str, Any]:
        """What `up` was told beside the file."""
        options: dict[str, Any] = json.loads((self.directory / "options.json").read_text(encoding="utf-8"))
        return options

    def namespace(self, node: str) -> str:
        return net.namespace(self.name, node)

    def node_directory(self, node: str) -> Path:
        return self.directory / node

    def instance(self, node: str) -> str:
        """Name of the node's data plane, which its pins are kept under."""
        return f"{self.name}-{node}"

    def control(self, name: str) -> Path:
        """Control socket of a wire or of a NAT node."""
        return self.directory / f"{name}.sock"

    def up(self, source: str, *, faultable: bool = False, seed: int | None = None, by_netem: bool = False) -> None:
        """Make namespaces, networks, links and routes of a topology (name or path); no VeilNet process yet.

        `faultable`: every link goes through the emulator and every member's files lie on a small file system of their
        own, so that every fault can be had. `seed`: instead of the file's. `by_netem`: links by the kernel's netem.

        Raises LabError or TopologyError, with nothing left behind.
        """
        _require_root_and_tools()
        text, path = read(source)
        files: dict[str, bytes] = {}

        def read_file(name: str) -> bytes:
            files[name] = (Path(path).parent / name).read_bytes()
            return files[name]

        topology = parse(text, path, read_file)
        topology = _with(topology, faultable=faultable, seed=topology.seed if seed is None else seed)
        self.check(topology, by_netem=by_netem)
        try:
            with self.journal.making():
                try:
                    self._make(
                        topology, text, files, {"faultable": faultable, "seed": topology.seed, "netem": by_netem}
                    )
                except BaseException:
                    self._remove()
                    raise
        except OSError as error:
            raise LabError(f"{error.filename or self.directory}: {error.strerror}; nothing was made") from error

    @staticmethod
    def check(topology: Topology, *, by_netem: bool = False) -> None:
        """Refuse, before anything is made, what this backend can't show. Raises LabError."""
        middle.check(topology, by_netem=by_netem)

    def _make(self, topology: Topology, text: str, files: dict[str, bytes], options: dict[str, Any]) -> None:
        self.temporary.mkdir(mode=0o700)
        for content in files.values():  # one at most: the matrix
            (self.directory / "matrix").write_bytes(content)
        (self.directory / "options.json").write_text(json.dumps(options), encoding="utf-8")
        (self.directory / "topology.yml").write_text(text, encoding="utf-8")
        self._build(topology)

    def _build(self, topology: Topology) -> None:
        for name in net.spaces(topology):
            self.journal.add("netns", self.namespace(name))
            net.create_namespace(self.namespace(name))
        for node in topology.nodes.values():
            self.node_directory(node.name).mkdir(mode=0o700)
            if node.member and not node.light:
                if self._options()["faultable"]:
                    self._mount(self.node_directory(node.name))
                self.journal.add("pins", self.instance(node.name))
        net.build_management(self.name, topology)
        for network in topology.networks:
            net.build_network(self.name, network)
        for link in topology.every_link:
            net.build_link(self.name, link, topology, by_netem=self.by_netem)
        net.pass_redirected(self.name, topology, self.temporary)
        net.build_routes(self.name, topology)
        middle.start(self, topology)

    def _mount(self, path: Path) -> None:
        self.journal.add("mount", str(path))
        options = f"size={NODE_DISK},mode=0700,nosuid,nodev"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "veilnet-lab", str(path)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"{path}: {done.stderr.strip()}; is this a container without CAP_SYS_ADMIN?")

    def down(self) -> None:
        """End the lab's processes, then remove namespaces, pins and files, in whatever state they are."""
        with self.journal.removing():
            self._remove()

    def _remove(self) -> None:
        entries = self.journal.entries()
        spaces = [entry.name for entry in entries if entry.what == "netns"]
        inodes = {number for name in spaces if (number := processes.inode(name)) is not None}
        processes.end_all(inodes)
        for entry in reversed(entries):
            if entry.what == "nat":
                middle.remove_nat(entry.name)
        for name in spaces:
            net.remove_namespace(name)
        processes.end_all(inodes)  # a process that was on its way in while we looked
        for entry in entries:
            if entry.what == "pins":
                _remove_instance(entry.name)
            elif entry.what == "disk":
                shutil.rmtree(entry.name, ignore_errors=True)
            elif entry.what == "mount" and os.path.ismount(entry.name):
                subprocess.run(["umount", "--lazy", entry.name], check=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)

    def nodes(self) -> list[tuple[str, str, list[int]]]:
        """(node, role, pids inside) of each node."""
        rows = []
        for node in self.topology.nodes.values():
            number = processes.inode(self.namespace(net.LIGHT if node.light else node.name))
            rows.append((node.name, node.role, sorted(processes.inside({number})) if number else []))
        return rows

    def place(self, node: str) -> str:
        """Where a node is, for people."""
        return self.namespace(net.LIGHT if self.topology.nodes[node].light else node)

    def shell(self, node: str) -> list[str]:
        """The command line of a shell inside a node. Raises LabError for an unknown node."""
        return self.command(node, [os.environ.get("SHELL", "/bin/sh")])

    def command(self, node: str, command: list[str]) -> list[str]:
        """The command line that runs `command` inside a node. Raises LabError for an unknown node."""
        if node not in net.spaces(self.topology):
            msg = f"no node {node!r} in lab {self.name!r}; nodes: {', '.join(self.topology.nodes)}"
            raise LabError(msg)
        return [*net.in_namespace(self.namespace(node)), *command]


def _with(topology: Topology, *, faultable: bool, seed: int) -> Topology:
    topology = replace(topology, seed=seed)
    return topology.faultable() if faultable else topology


def _require_root_and_tools() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root, for network namespaces and BPF: use sudo")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; `sudo ./run setup` installs all that a lab needs")


def down_all(prefix: str = "") -> list[str]:
    """Remove every lab whose name starts with `prefix`; returns their names."""
    names = [name for name in labs() if name.startswith(prefix)]
    for name in names:
        Lab(name).down()
    return names


def _remove_instance(name: str) -> None:
    """Pins of one node under every layout of the contract, its run directory, then what this leaves empty."""
    shutil.rmtree(RUN / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        RUN.rmdir()
    for path in PIN_BASE.glob(f"veilnet/*/{name}"):
        _remove_pins(path)
        with contextlib.suppress(OSError):  # another data plane is pinned there
            path.parent.rmdir()
            path.parent.parent.rmdir()


def _remove_pins(path: Path) -> None:
    """Pins are files and directories of bpffs; unlinking the last one frees its map or program."""
    if not path.is_dir():
        return
    for child in path.iterdir():
        if child.is_dir():
            _remove_pins(child)
        else:
            child.unlink(missing_ok=True)
    path.rmdir()
