# SPDX-License-Identifier: Apache-2.0
"""The engine's hands: ring buffer, raw socket, packet socket, control socket, clock. It decides nothing.

No UDP socket is ever bound: datagrams leave through a raw socket and arrive through XDP.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from typing import Any, Final

import structlog
from pyroute2 import IPRoute

from veilnet import contract as c
from veilnet.files import private_directory
from veilnet.keyd.bpf_plane import BpfPlane
from veilnet.keyd.core import (
    Action,
    EmitProbe,
    Inject,
    NetworkChoice,
    Nic,
    NodeKeys,
    RouteNetworks,
    SendDatagram,
    Underlay,
)
from veilnet.keyd.dataplane import Addrs
from veilnet.keyd.engine import Engine
from veilnet.keyd.ring import EventRing
from veilnet.keyd.routes import HostRoutes
from veilnet.keyd.spread import Spreader
from veilnet.loader import pins, routing
from veilnet.protocol.directory import Directory
from veilnet.protocol.errors import LocalError

RUN: Final = Path("/run/veilnet")
CLOCK_CHECK: Final = 1.0
CLOCK_STEP: Final = 0.5
"""Seconds by which the wall clock may drift from the monotonic one before the engine is told."""
REQUEST_MAX: Final = 65536
ETH_IP: Final = {4: 0x0800, 6: 0x86DD}

log = structlog.get_logger("veilnet.keyd")


def read_underlay(nic_names: tuple[str, ...], knock_port: int) -> Underlay:
    """IPv4 addresses of the NICs; the one that holds the default route is marked."""
    # pyroute2 runs an event loop of its own, which it can't do inside ours
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_read_underlay, nic_names, knock_port).result()


def _read_underlay(nic_names: tuple[str, ...], knock_port: int) -> Underlay:
    with IPRoute() as ip:
        routes = ip.get_default_routes(family=socket.AF_INET)
        default = {route.get_attr("RTA_OIF") for route in routes}
        nics = []
        for name in nic_names:
            (index,) = ip.link_lookup(ifname=name)
            mtu = ip.get_links(index)[0].get_attr("IFLA_MTU")
            for entry in ip.get_addr(family=socket.AF_INET, index=index):
                interface = IPv4Interface((entry.get_attr("IFA_LOCAL"), entry["prefixlen"]))
                nics.append(Nic(interface, index, mtu, default=index in default or len(nic_names) == 1))
    return Underlay(tuple(nics), knock_port)


def udp4(addrs: Addrs, payload: bytes) -> bytes:
    """IPv4 packet (RFC 791, 768). The UDP checksum is 0, "none", which UDP over IPv4 allows: each frame has its tag.
    The kernel fills in id, length and header checksum of a packet sent with IP_HDRINCL."""
    length = c.UDP_LEN + len(payload)
    head = bytes([0x45, 0]) + (c.IP4_LEN + length).to_bytes(2, "big") + b"\0\0\x40\0" + bytes([64, socket.IPPROTO_UDP])
    head += b"\0\0" + addrs.local.packed + addrs.remote.packed
    ports = addrs.lport.to_bytes(2, "big") + addrs.rport.to_bytes(2, "big")
    return head + ports + length.to_bytes(2, "big") + b"\0\0" + payload


def read_addrs(addrs: c.Addrs) -> Addrs:
    """`struct veil_addrs` of an event."""
    size = 4 if addrs.family == 4 else 16
    remote, local = ip_address(bytes(addrs.remote)[:size]), ip_address(bytes(addrs.local)[:size])
    return Addrs(remote, addrs.rport, local, addrs.lport)


class Sockets:
    """Raw IPv4 socket for datagrams; packet socket on veil0 for inner packets, so that veil0p's program sees them."""

    def __init__(self, plane: BpfPlane, *, marked: bool) -> None:
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        if marked:
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, routing.MARK)
        self._raw.setblocking(False)
        config = plane.maps.config
        self._macs = bytes(config.veil0p_mac) + bytes(config.veil0_mac)
        self._inner = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._inner.setblocking(False)
        self.device = socket.if_indextoname(config.veil0p_ifindex).removesuffix("p")

    def send(self, addrs: Addrs, payload: bytes) -> None:
        if isinstance(addrs.remote, IPv4Address):
            self._raw.sendto(udp4(addrs, payload), (str(addrs.remote), 0))

    def inject(self, packet: bytes) -> None:
        kind = ETH_IP[packet[0] >> 4]
        self._inner.sendto(self._macs + kind.to_bytes(2, "big") + packet, (self.device, kind))

    def close(self) -> None:
        self._raw.close()
        self._inner.close()


class Shell:
    """One instance's key daemon over a data plane that is up."""

    def __init__(
        self,
        instance: str,
        keys: NodeKeys,
        nic_names: tuple[str, ...],
        knock_port: int,
        facts: Callable[[], dict[str, Any]] = dict,
        *,
        networks: NetworkChoice | None = None,
    ) -> None:
        """`facts` are added to `status`: what others than the engine know."""
        self._instance, self._nic_names = instance, nic_names
        self.plane = BpfPlane(pins.instance_dir(instance))
        self._knock_port = knock_port or self.plane.maps.config.knock_port
        underlay = read_underlay(nic_names, self._knock_port)
        self.engine = Engine(keys, self.plane, os.urandom, underlay, networks=networks)
        self._sockets = Sockets(self.plane, marked=self.engine.core.networks.accept)
        self._routes = HostRoutes(instance, self._sockets.device)
        self._ring = EventRing(self.plane.maps, self._on_event)
        self._working = False
        self._timer: asyncio.TimerHandle | None = None
        self._wall = 0.0
        self._ready = False
        self._facts = facts

    # ---- actions -------------------------------------------------------------------------------------------------

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                if isinstance(action, SendDatagram):
                    self._sockets.send(action.addrs, action.payload)
                elif isinstance(action, Inject):
                    self._sockets.inject(action.packet)
                elif isinstance(action, EmitProbe):
                    self.plane.probe(action.link, action.body)
                elif isinstance(action, RouteNetworks):
                    self._routes.wish(action)
                else:
                    log.info(action.name, **action.fields)
            except OSError as error:
                # lost like a packet on the wire: no route, no room, or policy; whoever waits will repeat
                log.debug("not_sent", error=errno.errorcode.get(error.errno or 0, str(error)))
        self._wake()

    def _wake(self) -> None:
        """One timer, set to the engine's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.engine.next_deadline()
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + max(0.0, deadline - time.monotonic()), self._poll)

    def _poll(self) -> None:
        self._timer = None
        try:
            self.act(self.engine.poll(time.monotonic()))
        except Exception:
            self._failed("poll")  # time must go on
            self._wake()

    # ---- inputs --------------------------------------------------------------------------------------------------

    def _on_ring(self) -> None:
        self._ring.read()
        if self._ring.waiting and not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """A little of what waits; the ring, timers and sockets have their turn between two calls."""
        self._ring.work()
        self._working = self._ring.waiting > 0
        if self._working:
            asyncio.get_running_loop().call_soon(self._work)

    def _on_event(self, event: c.Event, data: bytes) -> None:
        if self._ready:
            try:
                self._take(event, data, time.monotonic())
            except Exception:
                self._failed("event")  # the others in the ring still count

    def _failed(self, what: str) -> None:
        """Our fault, or a map that refused: said and counted, and no reason to serve nobody any more."""
        log.exception(what)
        self.engine.core.count(f"{what}_failed")

    def _take(self, event: c.Event, data: bytes, now: float) -> None:
        if event.type == c.EVENT_KNOCK:
            self.act(self.engine.on_knock(read_addrs(event.addrs), event.slot, data, now))
        elif event.type == c.EVENT_CONTROL:
            self.act(self.engine.on_control(event.link, event.label, event.stream, data, now))
        elif event.type == c.EVENT_NO_STREAM:
            self.act(self.engine.on_no_stream(event.peer, data, now))

    def set_directory(self, directory: Directory) -> None:
        self.act(self.engine.set_directory(directory, time.monotonic()))
        self._ready = True
        log.info("directory", version=directory.version, nodes=len(directory.nodes))

    def _tell_clock(self) -> None:
        wall = time.time() - time.monotonic()
        if abs(wall - self._wall) > CLOCK_STEP:
            self._wall = wall
            self.act(self.engine.set_clock(time.monotonic(), time.time()))

    def reload(self) -> None:
        """Read this host's addresses again."""
        underlay = read_underlay(self._nic_names, self._knock_port)
        self.act(self.engine.set_underlay(underlay, time.monotonic()))

    # ---- control socket ------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the asker went away, or sent a line without end
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command = request["command"]
            if command == "ping":
                return await self._ping(str(request["name"]), float(request.get("timeout", 10.0)))
            if command == "reload":
                self.reload()
                return {"ok": True}
            if command == "paths":
                return {"paths": self._paths()}
            if command == "hosts":
                return self._hosts()
            return self._status() if command == "status" else {"error": f"unknown {command!r}"}
        except (ValueError, KeyError, TypeError, LocalError) as error:
            return {"error": str(error)}

    def _status(self) -> dict[str, Any]:
        found = self.engine.snapshot() | {"events_dropped": self._ring.dropped} | self._facts()
        found["networks"] |= {"missing": self._routes.missing}
        return found

    async def _ping(self, name: str, timeout: float) -> dict[str, Any]:
        done: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()

        def answered(ok: bool, seconds: float) -> None:
            if not done.done():
                done.set_result((ok, seconds))

        self.act(self.engine.ping(name, time.monotonic(), answered))
        try:
            ok, seconds = await asyncio.wait_for(done, timeout)
        except TimeoutError:
            return {"ok": False}
        return {"ok": ok, "rtt_ms": round(seconds * 1000, 3)}

    def _hosts(self) -> dict[str, Any]:
        directory = self.engine.core.directory
        found = [{"address": str(address), "name": name} for address, name in directory.hosts()]
        return {"suffix": directory.names.suffix, "hosts": found}

    def _paths(self) -> list[dict[str, Any]]:
        streams = self.engine.snapshot()["streams"]
        return [
            {
                "peer": stream["peer"],
                "hops": stream["path"] or [],
                "state": "up" if stream["up"] else "opening",
                "rtt_ms": stream["rtt_ms"],
            }
            for stream in streams
        ]

    # ---- life ----------------------------------------------------------------------------------------------------

    async def run(self, snapshots: AsyncIterator[Directory], stop: asyncio.Event) -> None:
        """Serve until `stop`. The data plane keeps what it has, so that a later run goes on from there."""
        loop = asyncio.get_running_loop()
        self._tell_clock()
        loop.add_reader(self._ring.fileno(), self._on_ring)
        self._on_ring()  # an earlier run may have left its share of the ring taken
        path = RUN / self._instance / "control.sock"
        private_directory(path.parent)
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, path, limit=REQUEST_MAX)
        finally:
            os.umask(mask)
        tasks = [asyncio.create_task(work) for work in (self._follow(snapshots), self._watch_clock(), *self._spread())]
        waiting = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, waiting):
                task.cancel()
            server.close()
            path.unlink(missing_ok=True)
            self._close(loop)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._ring.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._ring.close()
        self._sockets.close()
        self.plane.close()

    async def _follow(self, snapshots: AsyncIterator[Directory]) -> None:
        async for directory in snapshots:
            self.set_directory(directory)

    def _spread(self) -> list[Coroutine[Any, Any, None]]:
        """A Conflux's own work; a Guardian's programs have no cipher to spread and no packets of the host's."""
        if not (pins.instance_dir(self._instance) / "prog_veil_seal").exists():
            return []
        spreader = Spreader(self._sockets.device, self._nic_names, RUN / self._instance / "threaded")
        return [spreader.run(), self._routes.run()]

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_CHECK)
            self._tell_clock()
