# SPDX-License-Identifier: Apache-2.0
"""What `guardian up` and `conflux up` do: enrol if need be, data plane, key daemon."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute, NetlinkError

from veilnet.cli import daemon
from veilnet.cli.output import CliError, Exit, fail, say
from veilnet.enrolment_token import TokenTextError, read_token
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node_files import DESCRIPTOR_SECONDS, NodeError, NodeFiles, NodeInfo, read_info, unix_now
from veilnet.loader import dataplane, routing
from veilnet.loader.attach import AttachError
from veilnet.loader.headers import HeadersMissingError, use_headers
from veilnet.loader.pins import PinMismatchError
from veilnet.loader.program import ProgramError
from veilnet.loader.veth import DeviceTakenError
from veilnet.protocol.directory import Endpoint

_PORTS: Final = range(20000, 60000)
_UP_ERRORS = (AttachError, ProgramError, PinMismatchError, DeviceTakenError, HeadersMissingError, OSError, ValueError)


@dataclass(frozen=True)
class Wanted:
    """The command line of `up`."""

    role: str
    instance: str
    state_dir: Path
    nics: tuple[str, ...]
    addresses: tuple[str, ...]
    knock_port: int | None
    device: str
    name: str | None
    allow_generic: bool
    dark: bool
    foreground: bool
    accept_networks: bool = False
    offered: tuple[str, ...] = ()
    enrol_again: bool = False


def bring_up(wanted: Wanted, token_text: str | None) -> None:
    require_root()
    _check_networks(wanted)
    files = NodeFiles(wanted.state_dir)
    if daemon.running_pid(wanted.instance) is not None:
        fail(f"instance {wanted.instance} is up already", f"veilnet {wanted.role} down --instance {wanted.instance}")
    try:
        port = _knock_port(files, wanted)
        endpoints = tuple((address, port) for address in _addresses(wanted))
        info = _on_disk(files, wanted, token_text, endpoints)
        facts = _data_plane(wanted, info, port)
    except NodeError as error:
        raise CliError(str(error)) from error
    for attached in facts.attached:
        say(f"{attached.nic}: {attached.mode} XDP, driver {attached.driver}, MTU {attached.mtu}")
    _key_daemon(wanted, port, fresh=facts.veth is None or facts.veth.created)


def _check_networks(wanted: Wanted) -> None:
    if (wanted.accept_networks or wanted.offered) and wanted.role != dataplane.CONFLUX:
        remedy = "leave --accept-networks and --offer-network out"
        fail("a Guardian sends nothing of its host's and of no network", remedy, Exit.USAGE)
    for text in wanted.offered:
        try:
            ip_network(text)
        except ValueError as error:
            fail(f"--offer-network: {error}", "give a prefix such as 192.168.7.0/24", Exit.USAGE)


def require_root() -> None:
    if os.geteuid() != 0:
        fail("this needs root: it loads BPF programs and changes network devices", "use sudo", Exit.NOT_PERMITTED)


def _on_disk(files: NodeFiles, wanted: Wanted, token_text: str | None, endpoints: tuple[Endpoint, ...]) -> NodeInfo:
    try:
        return _enrolled(files, wanted, token_text, endpoints)
    except OSError as error:
        what = f"state directory {files.state_dir}: {error.strerror or error}"
        raise CliError(what, "nothing was brought up; see to room and mode of its disk, then the same again") from error


def _enrolled(files: NodeFiles, wanted: Wanted, token_text: str | None, endpoints: tuple[Endpoint, ...]) -> NodeInfo:
    """This node's identity: the one on disk with its endpoints brought up to date, or a new one by the token."""
    if not files.enrolled or wanted.enrol_again:
        info = _enrol(files, wanted, token_text, endpoints)
        say(f"enrolled as {info.name}, {info.ipv4.ip} and {info.ipv6.ip}")
    else:
        info = read_info(files)
        last = files.descriptor(unix_now())
        if last is None or last.endpoints != endpoints:
            files.make_descriptor(endpoints, unix_now(), DESCRIPTOR_SECONDS)  # the key daemon uploads it
    if wanted.role not in info.roles:
        fail(
            f"{info.name} is enrolled as {', '.join(info.roles)}, not as {wanted.role}",
            f"use a token with --role {wanted.role} and another --state-dir",
        )
    return info


def _enrol(files: NodeFiles, wanted: Wanted, token_text: str | None, endpoints: tuple[Endpoint, ...]) -> NodeInfo:
    if token_text is None:
        fail(
            f"{files.state_dir} holds no enrolled node and no token was given",
            "give --token @FILE or --token - (standard input), or set VEILNET_TOKEN; "
            "an administrator makes one with `veilnet token create`",
            Exit.USAGE,
        )
    try:
        token = read_token(token_text)
    except TokenTextError as error:
        raise CliError(str(error), "copy the whole line that `veilnet token create` showed", Exit.USAGE) from error
    return asyncio.run(enrol(files, token, wanted.name or _host_label(), endpoints))


def _host_label() -> str:
    """This host's name as a DNS label."""
    kept = (char if char.isalnum() and char.isascii() else "-" for char in socket.gethostname().partition(".")[0])
    return "".join(kept).lower().strip("-")[:63] or "node"


def _knock_port(files: NodeFiles, wanted: Wanted) -> int:
    """The port asked for, else the one of our last descriptor, else one by chance: no port is everybody's."""
    if wanted.knock_port is not None:
        return wanted.knock_port
    last = files.descriptor(unix_now()) if files.enrolled else None
    return last.endpoints[0][1] if last and last.endpoints else random.SystemRandom().choice(_PORTS)


def _addresses(wanted: Wanted) -> list[IPv4Address]:
    """Underlay addresses that others reach this node by: those given, else the first of each NIC."""
    if wanted.addresses:
        try:
            found = [ip_address(text) for text in wanted.addresses]
        except ValueError as error:
            raise CliError(f"--address: {error}", code=Exit.USAGE) from error
        return [address for address in found if isinstance(address, IPv4Address)] or fail(
            "--address: the underlay is IPv4", code=Exit.USAGE
        )
    return [_first_address(nic) for nic in wanted.nics]


def _first_address(nic: str) -> IPv4Address:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=nic)
        if not index:
            names = ", ".join(name for _, name in socket.if_nameindex() if name != "lo")
            fail(f"{nic}: no such device; there are: {names or 'none'}", "name one with --nic", Exit.USAGE)
        found = [entry.get_attr("IFA_LOCAL") for entry in ip.get_addr(family=socket.AF_INET, index=index[0])]
    if not found:
        fail(f"{nic} has no IPv4 address", "give it one, or name the address that others use with --address")
    return IPv4Address(found[0])


def _data_plane(wanted: Wanted, info: NodeInfo, port: int) -> dataplane.UpFacts:
    conflux = wanted.role == dataplane.CONFLUX
    spec = dataplane.Spec(
        instance=wanted.instance,
        nics=wanted.nics,
        role=wanted.role,
        knock_port=port,
        device=wanted.device,
        addresses=(info.ipv4, info.ipv6) if conflux else (),
        allow_generic=wanted.allow_generic,
        dark=wanted.dark,
    )
    try:
        use_headers()
        return dataplane.up(spec)
    except _UP_ERRORS as error:
        raise CliError(f"data plane: {error}", "`veilnet doctor` checks what this host needs") from error


def _key_daemon(wanted: Wanted, port: int, *, fresh: bool) -> None:
    """Start it. If it fails, a data plane that this `up` made goes again; one that was there keeps carrying packets."""
    arguments = keyd_arguments(wanted, port)
    if wanted.foreground:
        daemon.claim(wanted.instance, os.getpid())
        command = daemon.command(arguments)
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    try:
        pid = daemon.start(wanted.instance, wanted.state_dir, arguments)
    except CliError:
        daemon.stop(wanted.instance)
        if fresh:
            dataplane.down(wanted.instance)
        raise
    say(f"up: instance {wanted.instance}, key daemon pid {pid}, log {wanted.state_dir / 'keyd.log'}")


def keyd_arguments(wanted: Wanted, port: int) -> Sequence[str]:
    nics = [word for nic in wanted.nics for word in ("--nic", nic)]
    paths = ["--instance", wanted.instance, "--state-dir", str(wanted.state_dir)]
    networks = ["--accept-networks"] if wanted.accept_networks else []
    networks += [word for text in wanted.offered for word in ("--offer-network", text)]
    return [*paths, *nics, "--knock-port", str(port), *networks]


def take_down(instance: str) -> None:
    """Key daemon first, so that nothing writes maps that go; then programs, devices and pins. Twice is as once."""
    require_root()
    ran = daemon.stop(instance)
    try:
        routing.remove(instance)
        dataplane.down(instance)
    except (NetlinkError, OSError, ValueError) as error:
        raise CliError(f"data plane: {error}") from error
    say(f"down: instance {instance}" + ("" if ran else " (no key daemon was running)"))
