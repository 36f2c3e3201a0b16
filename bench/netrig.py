# SPDX-License-Identifier: Apache-2.0
"""Namespaces, veth pairs and load for the benchmarks; everything goes away with the context managers.

Relay rig, all of it on one core:

    edge ns                        relay ns                     edge ns
    generator ─ e0 ════veth════ r0 ─ relay under test ─ r1 ════veth════ e1 ─ sink (XDP_DROP, counts UDP)
         10.77.0.1/24     10.77.0.2/24            10.77.1.2/24     10.77.1.1/24
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from veilnet import contract as c
from veilnet.loader import libbpf, pins
from veilnet.loader.maps import Array, store
from veilnet.loader.program import Program, load

BPF_DIR = Path(__file__).parent / "bpf"
NETNS_DIR = Path("/run/netns")
ETH_LEN = c.ETH_LEN
CORE = 0
"""The core that generator, relay and sink share."""
OTHER_CORE = 1
"""Where a paced generator waits, so that it takes nothing from a relay in user space."""
WARM_UP = 200_000
"""Frames; starting a run of live frames takes the kernel some 20 ms, so runs are long."""
PACED = 5_000_000
"""Program runs of a paced generator, of which most only wait; about a second."""


class Gen(ctypes.Structure):
    """`struct bench_gen` of bench/bpf/bench.h."""

    _fields_ = [
        ("addrs", c.Addrs),
        ("l2", c.L2),
        ("key", c.SipKey),
        ("counter", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("label", "budget", "payload", "channel")),
        *((name, ctypes.c_uint64) for name in ("interval", "first", "next", "sessions")),
    ]


class Count(ctypes.Structure):
    """The sink's counter."""

    _fields_ = [("value", ctypes.c_uint64)]


def sh(command: str, namespace: str | None = None) -> str:
    """Run one shell command, in a namespace if one is named; its output. CalledProcessError if it fails."""
    prefix = ["nsenter", f"--net={NETNS_DIR / namespace}", "--"] if namespace else []
    return subprocess.run(
        [*prefix, "sh", "-ec", command], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


def softirq_seconds(core: int) -> float:
    """CPU time of ksoftirqd, which takes over when a core has too many frames to handle in place."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        if path.read_text(encoding="utf-8").strip() == f"ksoftirqd/{core}":
            return int((path.parent / "stat").read_text(encoding="utf-8").split()[14]) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"no ksoftirqd/{core}")


def all_softirq_seconds() -> float:
    """CPU time that all cores have spent in softirqs, in whatever thread's place; sampled by the kernel's tick."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return int(fields[7]) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """CPU time of a process, user and kernel, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    with ExitStack() as undo:
        for name in names:
            if (NETNS_DIR / name).exists():  # left by a run that was killed
                sh(f"ip netns delete {name}")
            sh(f"ip netns add {name}")
            undo.callback(sh, f"ip netns delete {name}")
            sh(
                "ip link set lo up; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"
                " net.ipv6.conf.default.disable_ipv6=1",
                name,
            )
        yield


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread act in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = (os.open(path, os.O_RDONLY) for path in (Path("/proc/thread-self/ns/net"), NETNS_DIR / namespace))
    try:
        if libc.setns(there, 0):
            raise OSError(ctypes.get_errno(), f"enter namespace {namespace}")
        yield
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(there)


def veth(name: str, namespace: str, peer: str, peer_namespace: str, *, offload: bool = False, mtu: int = 1500) -> None:
    """A veth pair between two namespaces, up. Without `offload` no end hands over more than a wire would carry."""
    sh(f"ip link add {name} netns {namespace} mtu {mtu} type veth peer name {peer} netns {peer_namespace} mtu {mtu}")
    for end, space in ((name, namespace), (peer, peer_namespace)):
        switch = "on" if offload else "off"
        sh(f"ip link set {end} up; ethtool -K {end} tso {switch} tx-udp-segmentation {switch} >/dev/null", space)


@contextmanager
def pinned_to(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Rate:
    """One measurement: frames per second that reached the sink, and the share of offered frames that did not."""

    pps: float
    loss: float
    arrived: int
    per_softirq: float = 0.0
    """Frames per second of CPU time in softirqs, where kernel and XDP relay; what generates is not in it."""


class RelayRig:
    """The rig above. A relay under test is set up inside `with RelayRig() as rig:`."""

    edge, relay = "vbench-edge", "vbench-relay"
    instance = "vbench"

    def __init__(self) -> None:
        self.pin_dir = pins.instance_dir(self.instance)
        self._undo = ExitStack()
        self.macs: dict[str, bytes] = {}
        self.index: dict[str, int] = {}
        self.compile_seconds: dict[str, float] = {}

    def __enter__(self) -> RelayRig:
        with ExitStack() as undo:
            undo.enter_context(namespaces(self.edge, self.relay))
            undo.enter_context(pinned_to(CORE))
            self._wire()
            undo.callback(shutil.rmtree, self.pin_dir, ignore_errors=True)
            undo.callback(self._unpin)
            self._unpin()
            self._maps()
            self.attach(self.edge, "e1", self.load("bench_relay.c", "bench_sink_udp"))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _wire(self) -> None:
        for number, (outer, inner) in enumerate((("e0", "r0"), ("e1", "r1"))):
            veth(outer, self.edge, inner, self.relay)
            sh(f"ip addr add 10.77.{number}.1/24 dev {outer}", self.edge)
            sh(f"ip addr add 10.77.{number}.2/24 dev {inner}", self.relay)
        sh("sysctl -qw net.ipv4.ip_forward=1", self.relay)
        for space, device in ((self.edge, "e0"), (self.edge, "e1"), (self.relay, "r0"), (self.relay, "r1")):
            words = sh(f"ip -o link show {device}", space).split()
            self.index[device] = int(words[0].rstrip(":"))
            self.macs[device] = bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))
        for number, (outer, inner) in enumerate((("e0", "r0"), ("e1", "r1"))):
            sh(f"ip neigh replace 10.77.{number}.1 lladdr {self.macs[outer].hex(':')} dev {inner}", self.relay)
            sh(f"ip neigh replace 10.77.{number}.2 lladdr {self.macs[inner].hex(':')} dev {outer}", self.edge)

    def _maps(self) -> None:
        pins.create_maps(self.pin_dir)
        for name, entry in (("bench_gen", Gen), ("bench_sink", Count)):
            fd = libbpf.map_create(name, "array", 4, ctypes.sizeof(entry), 1, flags=libbpf.F_MMAPABLE)
            libbpf.obj_pin(fd, self.pin_dir / name)
            os.close(fd)
        self.gen = Array(self.pin_dir / "bench_gen", Gen)[0]
        self._sink = Array(self.pin_dir / "bench_sink", Count)[0]

    def _unpin(self) -> None:
        for pin in self.pin_dir.iterdir() if self.pin_dir.exists() else ():
            pin.unlink()

    def load(self, source: str, function: str, *cflags: str) -> Program:
        """A program of bench/bpf/ or bpf/ over this rig's maps; unloaded with the rig."""
        path = BPF_DIR / source
        program = load(
            str(path) if path.exists() else source,
            self.pin_dir,
            function=function,
            cflags=[f"-I{BPF_DIR}", *cflags],
        )
        self.compile_seconds[function] = program.seconds
        self._undo.callback(program.close)
        return program

    def attach(self, namespace: str, device: str, program: Program | None) -> None:
        """Set or, with None, remove a device's native XDP program."""
        with inside(namespace):
            libbpf.xdp_attach(self.index[device], program.fd if program else -1, libbpf.XDP_FLAGS_DRV_MODE)

    def aim(self, source: tuple[str, int], target: tuple[str, int], frame: int, sessions: int = 1) -> None:
        """Let the generators send UDP from `source` to `target` through r0, in Ethernet frames of `frame` bytes.

        The senders of `sessions`, a power of two, have ports that follow on that of `source`.
        """
        gen = self.gen
        gen.sessions = sessions
        store(gen.addrs.local, IPv4Address(source[0]).packed.ljust(16, b"\0"))
        store(gen.addrs.remote, IPv4Address(target[0]).packed.ljust(16, b"\0"))
        gen.addrs.lport, gen.addrs.rport = source[1], target[1]
        store(gen.l2.dmac, self.macs["r0"])
        store(gen.l2.smac, self.macs["e0"])
        gen.l2.ifindex = self.index["e0"]
        gen.payload = frame - ETH_LEN - c.OUTER4_LEN

    def flood(self, generator: Program, frame: int) -> Rate:
        """As fast as one core generates, relays and counts; about a second.

        All of that is done in the name of this thread, so its CPU time is what the frames took, however busy the
        machine is otherwise. What ksoftirqd did meanwhile is added.
        """
        self._run(generator, frame, WARM_UP)
        repeat = int(WARM_UP / self._cpu_time(generator, frame, WARM_UP))
        before, softirqs = self._sink.value, all_softirq_seconds()
        took = self._cpu_time(generator, frame, repeat)
        arrived, softirqs = self._sink.value - before, all_softirq_seconds() - softirqs
        return Rate(arrived / took, 1 - arrived / repeat, arrived, arrived / softirqs)

    def _cpu_time(self, generator: Program, frame: int, repeat: int) -> float:
        start = time.thread_time() + softirq_seconds(CORE)
        self._run(generator, frame, repeat)
        return time.thread_time() + softirq_seconds(CORE) - start

    def offer(self, generator: Program, frame: int, pps: float) -> Rate:
        """A steady rate from the other core, for about a second; `generator` keeps to `interval`."""
        gen, before = self.gen, self._sink.value
        gen.interval, gen.first, gen.next, gen.counter = int(1e9 / pps), 0, 0, 0
        with pinned_to(OTHER_CORE):
            while not gen.first or gen.next - gen.first < 1e9:
                self._run(generator, frame, PACED)
        time.sleep(0.1)  # what still waits in the relay's socket counts too
        arrived, sent, took = self._sink.value - before, gen.counter, (gen.next - gen.first) / 1e9
        return Rate(arrived / took, 1 - arrived / sent, arrived)

    def _run(self, generator: Program, frame: int, repeat: int) -> None:
        ctx = libbpf.xdp_ctx(frame, ingress_ifindex=self.index["e0"])
        with inside(self.edge):
            libbpf.test_run(generator.fd, bytes(frame), ctx_in=ctx, live_frames=True, repeat=repeat)


WIRE_A, WIRE_F, WIRE_B = "vbench-a", "vbench-f", "vbench-b"
WIRE_ADDRESS_A, WIRE_ADDRESS_B = "10.78.0.1", "10.78.1.1"


@contextmanager
def wire(*, offload: bool = False) -> Iterator[None]:
    """a ── f ── b: two hosts and the kernel's forwarding between them, MTU 1500."""
    with namespaces(WIRE_A, WIRE_F, WIRE_B):
        veth("u0", WIRE_A, "f0", WIRE_F, offload=offload)
        veth("u0", WIRE_B, "f1", WIRE_F, offload=offload)
        sh("ip addr add 10.78.0.254/24 dev f0; ip addr add 10.78.1.254/24 dev f1", WIRE_F)
        sh("sysctl -qw net.ipv4.ip_forward=1", WIRE_F)
        for space, address, gateway in (
            (WIRE_A, WIRE_ADDRESS_A, "10.78.0.254"),
            (WIRE_B, WIRE_ADDRESS_B, "10.78.1.254"),
        ):
            sh(f"ip addr add {address}/24 dev u0; ip route add default via {gateway}", space)
        yield
