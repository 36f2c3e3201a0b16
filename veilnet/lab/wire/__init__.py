# SPDX-License-Identifier: Apache-2.0
"""Wires that misbehave: delay, jitter, loss, reordering, duplicates, rate and queue, MTU holes (docs/lab-wire.md)."""

from veilnet.lab.wire.ceiling import Ceiling, check, measured_ceiling
from veilnet.lab.wire.control import Control, Counters, Port, Wire, WireError, command, start_emulator
from veilnet.lab.wire.impairment import Burst, Impairment, ImpairmentError, Queue, netem_arguments
from veilnet.lab.wire.link import WireSpec, change, impairment, start

__all__ = [
    "Burst",
    "Ceiling",
    "Control",
    "Counters",
    "Impairment",
    "ImpairmentError",
    "Port",
    "Queue",
    "Wire",
    "WireError",
    "WireSpec",
    "change",
    "check",
    "command",
    "impairment",
    "measured_ceiling",
    "netem_arguments",
    "start",
    "start_emulator",
]
