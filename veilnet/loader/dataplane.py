# SPDX-License-Identifier: Apache-2.0
"""Bring a node's data plane up, swap its programs while it runs, take it down.

Nothing is remembered outside the kernel: pins, attachments and `veil_config` tell what is there. So `up` may run again
at any time, after `kill -9` too, and `down` finds everything. An `up` that fails undoes what it did, last step first.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from veilnet import contract as c
from veilnet.loader import attach, compiled, libbpf, pins, program, veth
from veilnet.loader.attach import AttachFacts
from veilnet.loader.maps import Maps, Network, store
from veilnet.loader.program import Program, ProgramError
from veilnet.loader.veth import Interface, VethFacts

GUARDIAN, CONFLUX = "guardian", "conflux"
PROGRAMS = {
    GUARDIAN: {"veil_rx": "xdp", "veil_ctl": "xdp"},
    CONFLUX: {"veil_rx": "xdp", "veil_ctl": "xdp", "veil_seal": "xdp", "veil_emit": "sched_cls", "xdp_pass": "xdp"},
}
"""Programs by role; a Conflux can do all that a Guardian does."""


@dataclass(frozen=True)
class Spec:
    """What `up` is to bring about. `inner_mtu` 0 means the longest that the NICs carry."""

    instance: str
    nics: tuple[str, ...]
    role: str
    knock_port: int = 0
    device: str = "veil0"
    addresses: tuple[Interface, ...] = ()
    routes: tuple[Network, ...] = ()
    inner_mtu: int = 0
    allow_generic: bool = False
    dark: bool = False


@dataclass(frozen=True)
class UpFacts:
    """What is there after `up` or `swap`."""

    pin_dir: Path
    attached: tuple[AttachFacts, ...]
    veth: VethFacts | None
    seconds: dict[str, float]
    """Compile and load time by program."""


def up(spec: Spec) -> UpFacts:
    """Create or complete the instance. AttachError, ProgramError, PinMismatchError, BpfError leave things as before."""
    pin_dir = pins.instance_dir(spec.instance)
    for nic in spec.nics:
        attach.ifindex_of(nic)  # before anything is made
    with ExitStack() as undo:
        if not pin_dir.exists():
            undo.callback(pins.remove_dir, pin_dir)
        pins.create_maps(pin_dir)
        mtu = spec.inner_mtu or _inner_mtu(spec.nics)
        pair = veth.ensure_pair(spec.device, spec.instance, mtu=mtu, addresses=spec.addresses, routes=spec.routes)
        if pair.created:
            undo.callback(veth.remove_pair, spec.instance)
        _write_config(pin_dir, spec, pair)
        places = [(nic, "veil_rx") for nic in spec.nics]
        emit_on = 0
        if spec.role == CONFLUX:
            places += [(pair.name, "xdp_pass"), (f"{pair.name}p", "veil_seal")]
            emit_on = pair.peer_ifindex
        facts = _install(spec, pin_dir, places, emit_on, undo)
        undo.pop_all()
    for other in pins.instance_dirs(spec.instance):
        if other != pin_dir:  # of an earlier contract, and no longer attached
            pins.remove_dir(other)
    return UpFacts(pin_dir, facts[0], pair, facts[1])


def _inner_mtu(nics: Sequence[str]) -> int:
    with IPRoute() as ip:
        mtus = [int(ip.get_links(attach.ifindex_of(nic))[0].get_attr("IFLA_MTU")) for nic in nics]
    return min([c.INNER_MAX, *(mtu - c.OVERHEAD4 for mtu in mtus)])


def _write_config(pin_dir: Path, spec: Spec, pair: VethFacts) -> None:
    with Maps(pin_dir) as maps:
        config = maps.config
        if not config.bucket_seed:  # links already sit in buckets of the old seed
            config.bucket_seed = secrets.randbits(63) | 1
        config.fib_ifindex = config.veil0p_ifindex = pair.peer_ifindex
        config.veil0_ifindex = pair.ifindex
        config.knock_port, config.dark = spec.knock_port, int(spec.dark)
        config.emit = c.EMIT_TC
        config.inner_mtu = pair.mtu
        store(config.veil0_mac, pair.mac)
        store(config.veil0p_mac, pair.peer_mac)


def compile_for(machine: compiled.Machine, instance: str) -> dict[str, bytes]:
    """Cache files (`compiled.CACHE`) for another machine with the same bcc: name and content, of every program.

    Our programs use UAPI only, so that what these headers give is what that machine's would. Made by loading all of
    them here, over maps of an instance that is gone afterwards. Raises ProgramError, BpfError.
    """
    pin_dir = pins.instance_dir(instance)
    found = {}
    with ExitStack() as stack:
        stack.callback(pins.remove_dir, pin_dir)
        pins.create_maps(pin_dir)
        _load(pin_dir, CONFLUX, stack)
        for name, kind in PROGRAMS[CONFLUX].items():
            kept = compiled.CACHE / compiled.digest(program.source_dir(), name, kind)
            found[compiled.digest(program.source_dir(), name, kind, machine)] = kept.read_bytes()
    return found


# ---- programs -------------------------------------------------------------------------------------------------------


def _sane(loaded: Program) -> None:
    """Run a fresh program once on something that is no packet of ours, and see it refuse as it must."""
    wanted = {"veil_rx": libbpf.XDP_PASS, "xdp_pass": libbpf.XDP_PASS, "veil_seal": libbpf.XDP_DROP}
    wanted |= {"veil_ctl": libbpf.XDP_DROP, "veil_emit": 2}  # TC_ACT_SHOT
    run = libbpf.test_run(loaded.fd, bytes(64))
    if run.verdict != wanted[loaded.name]:
        raise ProgramError(f"{loaded.name}: verdict {run.verdict} for an empty packet, not {wanted[loaded.name]}")


def _load(pin_dir: Path, role: str, stack: ExitStack) -> dict[str, Program]:
    loaded = {}
    for name, kind in PROGRAMS[role].items():
        loaded[name] = stack.enter_context(program.load(f"{name}.c", pin_dir, prog_type=kind))
        _sane(loaded[name])
    return loaded


def _install(
    spec: Spec, pin_dir: Path, places: Sequence[tuple[str, str]], emit_on: int, undo: ExitStack
) -> tuple[tuple[AttachFacts, ...], dict[str, float]]:
    """Load a fresh generation, put it in place of the old one device by device, then make its pins the valid ones."""
    with ExitStack() as files:
        loaded = _load(pin_dir, spec.role, files)
        staged = {}
        for name, fresh in loaded.items():
            staged[name] = pins.stage_program(fresh.fd, pin_dir, name)
            undo.callback(staged[name].unlink, missing_ok=True)
        ours = pins.program_ids(spec.instance)
        facts = []
        for nic, name in places:
            fact = attach.attach_xdp(
                nic, loaded[name].fd, ours=ours, allow_generic=spec.allow_generic and nic in spec.nics
            )
            undo.callback(_restorer(fact, ours))
            facts.append(fact)
        if emit_on:
            attach.attach_emit(emit_on, loaded["veil_emit"].fd)
        _leave(ours, {nic for nic, _ in places})
        for name, path in staged.items():
            pins.commit_program(path, name)
        return tuple(facts), {name: fresh.seconds for name, fresh in loaded.items()}


def _leave(ours: Collection[int], keep: Collection[str]) -> None:
    """Detach from devices that are no longer asked for, while the pins still tell which programs are ours."""
    for nic in attach.attached(ours):
        if nic not in keep:
            attach.detach_xdp(nic, ours=ours)


def _restorer(fact: AttachFacts, ours: dict[int, Path]) -> Callable[[], None]:
    """Undo one attachment: the program before it, or none."""
    generic = fact.mode == "generic"

    def restore() -> None:
        if not fact.replaced:
            attach.detach_xdp(fact.nic, ours=ours)
            return
        fd = libbpf.prog_fd(fact.replaced)
        try:
            attach.attach_xdp(fact.nic, fd, ours=ours, allow_generic=generic)
        finally:
            os.close(fd)

    return restore


def swap(instance: str) -> UpFacts:
    """Compile the programs anew and put them in place without detaching: no frame is lost, no map is touched."""
    pin_dir = pins.instance_dir(instance)
    ours = pins.program_ids(instance)
    role = CONFLUX if (pin_dir / "prog_veil_seal").exists() else GUARDIAN
    places = [(nic, pins.program_name(ours[number])) for nic, number in attach.attached(ours).items()]
    emit_on = 0
    if not places:
        raise ProgramError(f"instance {instance} is not up in this network namespace")
    if role == CONFLUX:
        with Maps(pin_dir) as maps:
            emit_on = int(maps.config.veil0p_ifindex)
    spec = Spec(instance, tuple(nic for nic, _ in places), role)
    with ExitStack() as undo:
        facts, seconds = _install(spec, pin_dir, places, emit_on, undo)
        undo.pop_all()
    return UpFacts(pin_dir, facts, None, seconds)


# ---- down -----------------------------------------------------------------------------------------------------------


def down(instance: str) -> None:
    """Detach, delete veil0, unpin: under every contract that the instance was ever run with. Idempotent."""
    ours = pins.program_ids(instance)
    for nic in attach.attached(ours):
        attach.detach_xdp(nic, ours=ours)
    veth.remove_pair(instance)
    for pin_dir in pins.instance_dirs(instance):
        pins.remove_dir(pin_dir)
