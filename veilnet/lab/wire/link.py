# SPDX-License-Identifier: Apache-2.0
"""The wire of a topology's link: what the lab's backend and its faults call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilnet.lab.net import NETNS_DIR, in_namespace
from veilnet.lab.topology.model import Direction
from veilnet.lab.wire.control import Control, Port, Wire, WireError, start_emulator
from veilnet.lab.wire.impairment import Burst, Impairment, Queue


@dataclass(frozen=True, slots=True)
class WireSpec:
    """`devices` stand in the wire's namespace and are up; directions[0] is from the first to the second.

    Wires with the same `control` share one process, which is what a lab with many links wants.
    """

    devices: tuple[str, str]
    directions: tuple[Direction, Direction]
    seed: int
    control: Path
    log: Path

    @property
    def name(self) -> str:
        """The wire's name at its control socket: that of the link."""
        return "-".join(self.devices)


def impairment(direction: Direction, *, blackhole: bool = False) -> Impairment:
    """A topology's direction as the emulator takes it. Raises ImpairmentError for what no wire can do."""
    loss: float | Burst = direction.loss
    if direction.burst is not None:
        chain = direction.burst
        loss = Burst(p=chain.p, r=chain.r, h=1 - chain.bad, k=1 - chain.good)
    queue = None
    if direction.queue_frames is not None:
        queue = Queue(frames=direction.queue_frames)
    elif direction.queue_seconds is not None:
        queue = Queue(seconds=direction.queue_seconds)
    return Impairment(
        delay=direction.delay,
        jitter=direction.jitter,
        loss=loss,
        reorder=direction.reorder,
        duplicate=direction.duplicate,
        rate=direction.rate,
        queue=queue,
        mtu=direction.mtu,
        blackhole=blackhole,
    )


def start(namespace: str, spec: WireSpec) -> int:
    """Join the devices; returns the emulator's pid once frames pass. Starts it in `namespace` if none serves yet."""
    impairments = [impairment(direction) for direction in spec.directions]
    try:
        control = Control(spec.control, patience=0)
    except WireError:
        start_emulator(spec.control, spec.log, in_namespace(namespace))
        control = Control(spec.control)
    home = NETNS_DIR / namespace
    first, second = (Port(device, home) for device in spec.devices)
    with control:
        control.add(Wire(spec.name, (first, second), spec.seed))
        for direction, wanted in enumerate(impairments):
            control.change(spec.name, direction, wanted)
        return control.pid


def change(spec: WireSpec, direction: int, wanted: Direction, *, blackhole: bool = False) -> None:
    """Change one direction at run time; `blackhole` lets nothing pass."""
    with Control(spec.control) as control:
        control.change(spec.name, direction, impairment(wanted, blackhole=blackhole))
