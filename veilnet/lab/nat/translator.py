# SPDX-License-Identifier: Apache-2.0
"""The lab's translator: three TC programs in a node's namespace, and their maps.

    /sys/fs/bpf/veilnet-lab-nat/<digest of the sources>/<namespace>/<map>, prog_<program>

The pins are the only state. Everything here can be repeated, and works on what a killed run left half done.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from veilnet.lab.journal import LabError
from veilnet.lab.nat import firewall, layout
from veilnet.lab.nat.kinds import Dependence, Firewall, NatKind, Ports, check_timeout
from veilnet.lab.nat.run import run
from veilnet.lab.net import NETNS_DIR
from veilnet.loader import libbpf, pins, program
from veilnet.loader.maps import Array

ROOT = pins.BPFFS / "veilnet-lab-nat"
SOURCES = Path(__file__).parent
PROGRAMS = ("nat_out", "nat_in", "nat_hairpin")
PROTOCOLS = {17: "udp", 1: "icmp"}
_HANDLE = ("prio", "47", "handle", "0x47")  # ours, beside what others put on the device
_NS = 1_000_000_000
_CODES = {value: number for number, value in enumerate(Dependence)}
_PORTS = {value: number for number, value in enumerate(Ports)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One mapping. `remote` and `remote_port` are None where the kind does not look at them; `age` and `idle` in
    seconds, `idle` since the last packet that refreshes it."""

    protocol: str
    inside: IPv4Address
    inside_port: int
    public_port: int
    remote: IPv4Address | None
    remote_port: int | None
    age: float
    idle: float


@contextmanager
def _locked() -> Iterator[None]:
    """One command at a time: two labs may be made at once."""
    with Path("/run/veilnet-lab-nat.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    text = b"".join((SOURCES / name).read_bytes() for name in ("layout.h", "packet.h", "nat.c"))
    return hashlib.sha256(text).hexdigest()[:12]


def _pins(namespace: str) -> Path:
    return ROOT / _digest() / namespace


def _ipv4(raw: int) -> IPv4Address:
    return IPv4Address(raw)


def _programs(folder: Path) -> None:
    """Load and pin the programs unless they are pinned; loading creates the maps."""
    if all((folder / f"prog_{name}").exists() for name in PROGRAMS):
        return
    flags = [f"-I{SOURCES}"]
    for loaded in program.load_all(str(SOURCES / "nat.c"), folder, PROGRAMS, prog_type="sched_cls", cflags=flags):
        with loaded:
            loaded.pin(folder)


def _config(folder: Path) -> layout.NatConfig:
    return Array(folder / "config", layout.NatConfig)[0]


def _configure(folder: Path, public: IPv4Address, kind: NatKind) -> None:
    config = _config(folder)
    config.udp_timeout, config.icmp_timeout = round(kind.udp_timeout * _NS), round(kind.icmp_timeout * _NS)
    config.seed, config.address = kind.seed, int(public)
    config.port_low, config.port_high = kind.port_range
    config.mapping, config.filtering, config.ports = _CODES[kind.mapping], _CODES[kind.filtering], _PORTS[kind.ports]
    config.hairpin, config.inbound_refresh = kind.hairpin, kind.inbound_refresh


def _same_kind(folder: Path, public: IPv4Address, kind: NatKind) -> bool:
    """Whether mappings made so far are those that `kind` would have made."""
    config = _config(folder)
    found = (config.address, config.mapping, config.port_low, config.port_high)
    return found == (int(public), _CODES[kind.mapping], *kind.port_range)


# Addresses of packets that hairpin are the node's own when they are routed, and they leave by the device they came by.
_SYSCTLS = """
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.send_redirects=0
for nic in "$@"; do sysctl -qw net.ipv4.conf.$nic.rp_filter=0 net.ipv4.conf.$nic.send_redirects=0; done
shift
for nic in "$@"; do sysctl -qw net.ipv4.conf.$nic.accept_local=1; done
"""


def _hooks(inside: Sequence[str], outside: str) -> list[tuple[str, str, str]]:
    """(device, direction, program)."""
    return [(outside, "egress", "nat_out"), (outside, "ingress", "nat_in")] + [
        (nic, "ingress", "nat_hairpin") for nic in inside
    ]


def _attach(namespace: str, folder: Path, hooks: Sequence[tuple[str, str, str]]) -> None:
    for nic in sorted({nic for nic, *_ in hooks}):
        if "clsact" not in run(namespace, "tc", "qdisc", "show", "dev", nic):
            run(namespace, "tc", "qdisc", "add", "dev", nic, "clsact")
    for nic, direction, name in hooks:
        where = ("dev", nic, direction, *_HANDLE)
        run(namespace, "tc", "filter", "replace", *where, "bpf", "da", "pinned", str(folder / f"prog_{name}"))


def _check_devices(namespace: str, inside: Sequence[str], outside: str, public: IPv4Address) -> None:
    if not (NETNS_DIR / namespace).exists():
        raise LabError(f"nat: no namespace {namespace}")
    links = {link["ifname"]: link for link in json.loads(run(namespace, "ip", "-j", "-4", "address"))}
    for nic in (*inside, outside):
        if nic not in links:
            raise LabError(f"nat: {namespace} has no device {nic} with an IPv4 address; there are {', '.join(links)}")
    if outside in inside:
        raise LabError(f"nat: {namespace}: {outside} is named as outside and as inside")
    if str(public) not in {address["local"] for address in links[outside]["addr_info"]}:
        raise LabError(f"nat: {namespace}: {public} is not an address of {outside}")


def apply(namespace: str, inside: Sequence[str], outside: str, public: IPv4Address, kind: NatKind) -> None:
    """Make `namespace` a NAT of `kind` between its `inside` devices and `outside`, whose address `public` is.

    The first time takes about half a second, since the programs are compiled; a second call with another kind changes
    the running NAT in milliseconds. Mappings survive unless the public address, the port range or the mapping behaviour
    changes.
    Switches forwarding on. Raises LabError; what is missing is then named and nothing is attached.
    """
    _check_devices(namespace, inside, outside, public)
    with _locked():
        folder = _pins(namespace)
        pins.ensure_bpffs()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _programs(folder)
        if not _same_kind(folder, public, kind):
            _clear(folder)
        _configure(folder, public, kind)
    run(namespace, "sh", "-c", _SYSCTLS, "sysctls", outside, *inside)
    _attach(namespace, folder, _hooks(inside, outside))
    firewall.masquerade(namespace, outside, public, kind.firewall)


def remove(namespace: str, inside: Sequence[str] = (), outside: str | None = None) -> None:
    """Undo `apply`, whatever of it was done. Without devices, or when the namespace is gone, only the pins go: programs
    and tables go with the namespace. The sysctls stay."""
    if outside is not None and (NETNS_DIR / namespace).exists():
        for nic in (outside, *inside):
            _detach(namespace, nic)
        firewall.block(namespace, Firewall())
    with _locked():
        for folder in ROOT.glob(f"*/{namespace}"):
            pins.remove_dir(folder)


def _detach(namespace: str, nic: str) -> None:
    """Take our filters off a device, and clsact with them if nobody else has filters there."""
    if "clsact" not in run(namespace, "tc", "qdisc", "show", "dev", nic):
        return
    for direction in ("ingress", "egress"):
        if "handle 0x47" in run(namespace, "tc", "filter", "show", "dev", nic, direction):
            run(namespace, "tc", "filter", "del", "dev", nic, direction, *_HANDLE, "bpf")
    if not any(run(namespace, "tc", "filter", "show", "dev", nic, way).strip() for way in ("ingress", "egress")):
        run(namespace, "tc", "qdisc", "del", "dev", nic, "clsact")


def _existing(namespace: str) -> Path:
    folder = _pins(namespace)
    if not (folder / "config").exists():
        raise LabError(f"nat: {namespace} is no NAT of this version")
    return folder


def rebind(namespace: str, *, new_ports: bool = True) -> int:
    """Forget all mappings and permissions, as a rebooted NAT does; how many mappings were alive.

    With `new_ports` no flow gets the port back that it had, not even with port preservation: ports of forgotten
    mappings stay taken until these would have timed out. Without, the table is empty, and
    the sequence of ports starts anew, as after power-on.
    """
    folder = _existing(namespace)
    count = len(mappings(namespace))
    if new_ports:
        _config(folder).epoch += 1
    else:
        _clear(folder)
        _config(folder).allocated = 0
    return count


def _clear(folder: Path) -> None:
    for name, view in (
        ("ports", layout.NatPort), ("flows", layout.NatFlow), ("permits", layout.NatPermit),
        ("fragments", layout.NatFragment),
    ):  # fmt: skip
        with _opened(folder / name) as fd:
            for key in libbpf.map_keys(fd, ctypes.sizeof(view)):
                with _gone():
                    libbpf.map_delete(fd, key)


@contextmanager
def _gone() -> Iterator[None]:
    """Packets go on meanwhile: an entry may be gone when it is asked for."""
    try:
        yield
    except libbpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = libbpf.obj_get(path)
    try:
        yield fd
    finally:
        os.close(fd)


def set_timeout(namespace: str, *, udp: float | None = None, icmp: float | None = None) -> None:
    """Change timeouts, seconds; mappings older than the new one are void at once."""
    for seconds in (udp, icmp):
        if seconds is not None:
            check_timeout(seconds)
    config = _config(_existing(namespace))
    if udp is not None:
        config.udp_timeout = round(udp * _NS)
    if icmp is not None:
        config.icmp_timeout = round(icmp * _NS)


def settings(namespace: str) -> dict[str, int]:
    """What `apply` and `set_timeout` have set, as the kernel has it; times in nanoseconds."""
    config = _config(_existing(namespace))
    names = ("udp_timeout", "icmp_timeout", "address", "port_low", "port_high", "mapping", "filtering", "ports")
    return {name: int(getattr(config, name)) for name in (*names, "hairpin", "inbound_refresh")}


def mappings(namespace: str) -> list[Entry]:
    """The live mappings, by protocol and public port. TCP's are conntrack's, not ours."""
    folder = _existing(namespace)
    config, found = _config(folder), []
    with _opened(folder / "ports") as fd:
        for raw in libbpf.map_keys(fd, ctypes.sizeof(layout.NatPort)):
            with _gone():
                value = libbpf.map_lookup(fd, raw, ctypes.sizeof(layout.NatMapping))
                found.append((layout.NatPort.from_buffer_copy(raw), layout.NatMapping.from_buffer_copy(value)))
    now = time.monotonic_ns()
    alive = [(port, mapping) for port, mapping in found if _alive(config, mapping, now)]
    return sorted((_entry(config, *pair, now) for pair in alive), key=lambda entry: (entry.protocol, entry.public_port))


def _alive(config: layout.NatConfig, mapping: layout.NatMapping, now: int) -> bool:
    timeout = config.udp_timeout if PROTOCOLS[mapping.flow.proto] == "udp" else config.icmp_timeout
    return bool(mapping.epoch == config.epoch and now - mapping.used < timeout)


def _entry(config: layout.NatConfig, port: layout.NatPort, mapping: layout.NatMapping, now: int) -> Entry:
    flow = mapping.flow
    entry = Entry(
        PROTOCOLS[port.proto], _ipv4(flow.inside), flow.port, port.port, _ipv4(flow.remote), flow.remote_port,
        (now - mapping.created) / _NS, max(0, now - mapping.used) / _NS,
    )  # fmt: skip
    if config.mapping == layout.NAT_ENDPOINT_INDEPENDENT:
        return replace(entry, remote=None, remote_port=None)
    return replace(entry, remote_port=None) if config.mapping == layout.NAT_ADDRESS_DEPENDENT else entry


def statistics(namespace: str) -> dict[str, int]:
    """Packets by reason (`layout.REASON_TEXT` explains), those that occurred."""
    folder, cpus = _existing(namespace), libbpf.num_possible_cpus()
    counts = {}
    with _opened(folder / "reasons") as fd:
        for number, name in enumerate(layout.REASONS):
            raw = libbpf.map_lookup(fd, number.to_bytes(4, "little"), 8 * cpus)
            total = sum(int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8))
            if total:
                counts[name] = total
    return counts
