# SPDX-License-Identifier: Apache-2.0
"""Namespaces around NATs, and sockets in them.

client ── in0 NAT out0 ──┐
client ── in0 NAT out0 ──┤ bridge of the server, 203.0.113.10 and .11
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from tests.patience import PATIENCE, wait_for
from veilnet.lab import nat, net
from veilnet.lab.nat import layout, translator
from veilnet.lab.nat.run import run
from veilnet.loader import libbpf

CLONE_NEWNET = 0x40000000
SERVERS = ("203.0.113.10", "203.0.113.11")
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """This thread in a namespace. Sockets made here stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(net.NETNS_DIR / namespace, os.O_RDONLY)
    try:
        if _LIBC.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        yield
    finally:
        _LIBC.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


def prepare(namespace: str, *nics: str) -> None:
    """Devices as a wire's: whole checksums, no super-frames, no IPv6 chatter."""
    for nic in nics:
        run(namespace, "sysctl", "-qw", f"net.ipv6.conf.{nic}.disable_ipv6=1")
        run(namespace, "ethtool", "-K", nic, "tx", "off", "tso", "off", "gro", "on")
        run(namespace, "ip", "link", "set", nic, "up")


@dataclass
class Rig:
    """One lab of the test's own; `close` removes everything."""

    lab: str
    cleanup: ExitStack = field(default_factory=ExitStack)
    applied: set[str] = field(default_factory=set)
    sockets: list[socket.socket] = field(default_factory=list)

    def namespace(self, node: str) -> str:
        name = net.namespace(self.lab, node)
        self.cleanup.callback(net.remove_namespace, name)
        net.create_namespace(name)
        return name

    def server(self) -> str:
        """A namespace with both of the servers' addresses on a bridge.

        A bridge without a MAC address of its own changes it as ports come: neighbours are forgotten then, frames lost.
        """
        name = self.namespace("srv")
        run(name, "ip", "link", "add", "br0", "address", "02:00:00:00:00:01", "type", "bridge")
        for address in SERVERS:
            run(name, "ip", "address", "add", f"{address}/24", "dev", "br0")
        prepare(name, "br0")
        return name

    def link(self, here: str, device: str, there: str, peer: str, mtu: int = 1500) -> None:
        run(here, *f"ip link add {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {there}".split())
        prepare(here, device)
        prepare(there, peer)

    def on_bridge(self, server: str, name: str, nic: str, address: str) -> None:
        port = f"p{address.rpartition('.')[2]}"
        self.link(name, nic, server, port)
        run(server, "ip", "link", "set", port, "master", "br0")
        run(name, "ip", "address", "add", f"{address}/24", "dev", nic)

    def inside_lan(self, name: str, gateway: str) -> str:
        """Bridge in0 of a NAT node; `gateway` is its address in a /24."""
        run(name, "ip", "link", "add", "in0", "type", "bridge")
        run(name, "ip", "address", "add", f"{gateway}/24", "dev", "in0")
        prepare(name, "in0")
        return "in0"

    def client(self, node: str, router: str, address: str, mtu: int = 1500, nic: str = "eth0") -> str:
        """A host on a node's in0, whose default route goes through it."""
        name = self.namespace(node)
        port = f"c{address.rpartition('.')[2]}"
        self.link(name, nic, router, port, mtu)
        run(router, "ip", "link", "set", port, "master", "in0")
        run(name, "ip", "address", "add", f"{address}/24", "dev", nic)
        gateway = address.rsplit(".", 1)[0] + ".1"
        run(name, "ip", "route", "add", "default", "via", gateway)
        return name

    def apply(self, name: str, public: str, kind: nat.NatKind, inside: Sequence[str] = ("in0",)) -> None:
        if name not in self.applied:
            self.applied.add(name)
            self.cleanup.callback(nat.remove, name)
        nat.apply(name, inside, "out0", IPv4Address(public), kind)

    def udp(self, namespace: str, address: str = "0.0.0.0", port: int = 0) -> socket.socket:  # noqa: S104
        with entered(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sockets.append(made)
        made.settimeout(PATIENCE)
        made.bind((address, port))
        return made

    def close_sockets(self) -> None:
        while self.sockets:
            self.sockets.pop().close()

    def close(self) -> None:
        self.close_sockets()
        self.cleanup.close()


@dataclass
class Pair:
    """client, second (both inside), NAT node and server."""

    rig: Rig
    server: str
    node: str
    client: str
    second: str
    public: str = "203.0.113.1"

    def apply(self, kind: nat.NatKind) -> None:
        """`kind` on an empty table."""
        self.rig.apply(self.node, self.public, kind)
        nat.rebind(self.node, new_ports=False)

    def inside(self, port: int = 0) -> socket.socket:
        return self.rig.udp(self.client, port=port)

    def outside(self, address: str = SERVERS[0], port: int = 0) -> socket.socket:
        return self.rig.udp(self.server, address, port)


def build_pair(lab: str) -> Pair:
    rig = Rig(lab)
    try:
        server = rig.server()
        node = rig.namespace("nat")
        rig.on_bridge(server, node, "out0", Pair.public)
        rig.inside_lan(node, "10.0.0.1")
        client = rig.client("c1", node, "10.0.0.2")
        second = rig.client("c2", node, "10.0.0.3")
    except BaseException:
        rig.close()
        raise
    return Pair(rig, server, node, client, second)


def arrives(receiver: socket.socket, sender: socket.socket, to: tuple[str, int], data: bytes = b"?") -> tuple[str, int]:
    """Send one datagram and wait for it; whom the receiver sees."""
    sender.sendto(data, to)
    got, seen = receiver.recvfrom(65535)
    assert got == data
    return str(seen[0]), int(seen[1])


def waiting(receiver: socket.socket) -> list[bytes]:
    """What has come in by now. Frames of one veth path are handled in the sender's call, so `now` is exact once a later
    datagram on the same path has arrived."""
    found = []
    receiver.setblocking(False)
    try:
        while True:
            found.append(receiver.recv(65535))
    except BlockingIOError:
        return found
    finally:
        receiver.settimeout(PATIENCE)


def comes_in(node: str, there: socket.socket, here: socket.socket, public: tuple[str, int]) -> bool:
    """Whether a datagram from outside comes in; the NAT's own counters say when it has been decided."""
    before = nat.statistics(node)
    there.sendto(b"in", public)
    wait_for(lambda: decided(before, nat.statistics(node)) > 0, what="the NAT counted nothing")
    if nat.statistics(node).get("NAT_OK_IN", 0) == before.get("NAT_OK_IN", 0):
        assert waiting(here) == []
        return False
    assert here.recv(100) == b"in"
    return True


def decided(before: dict[str, int], after: dict[str, int]) -> int:
    """Packets that were let in, turned round or dropped between two readings of the counters."""
    inbound = [name for name in after if name in {"NAT_OK_IN", "NAT_OK_HAIRPIN"} or "_DROP_" in name]
    return sum(after[name] - before.get(name, 0) for name in inbound)


def age(node: str, seconds: float) -> None:
    """Let all mappings and permissions be so much longer unused: no test waits for them."""
    folder, past = translator.ROOT / translator._digest() / node, round(seconds * 1e9)
    for name, key, view in (
        ("ports", layout.NatPort, layout.NatMapping),
        ("permits", layout.NatPermit, ctypes.c_uint64),
    ):
        with translator._opened(folder / name) as fd:
            for raw in list(libbpf.map_keys(fd, ctypes.sizeof(key))):
                value = view.from_buffer_copy(libbpf.map_lookup(fd, raw, ctypes.sizeof(view)))
                if isinstance(value, layout.NatMapping):
                    value.used -= past
                else:
                    value.value -= past
                libbpf.map_update(fd, raw, bytes(value))
