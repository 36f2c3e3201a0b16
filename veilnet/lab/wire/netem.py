# SPDX-License-Identifier: Apache-2.0
"""Wires by the kernel's own netem, where it has it: both ports on a bridge, a qdisc on each (tc-netem(8)).

A direction's frames leave by the other end's port, so that is where its qdisc stands.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from typing import Any, Final

from veilnet.lab.journal import LabError
from veilnet.lab.net import in_namespace, run
from veilnet.lab.topology.model import Direction
from veilnet.lab.wire.impairment import netem_arguments
from veilnet.lab.wire.link import WireSpec, impairment

_HANDLES: Final = ("a:", "b:")


@cache
def available() -> bool:
    """Whether this kernel has netem; asked of it in a namespace that goes at once."""
    command = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def require() -> None:
    """Raises LabError."""
    if not available():
        raise LabError(
            "this kernel has no netem (tc-netem(8)): load sch_netem, or take the lab's own emulator, without --netem"
        )


def check(direction: Direction) -> None:
    """Refuse what netem can't show. Raises ImpairmentError."""
    netem_arguments(impairment(direction))


def start(namespace: str, spec: WireSpec) -> None:
    for index, direction in enumerate(spec.directions):
        change(namespace, spec, index, direction)


def change(namespace: str, spec: WireSpec, direction: int, wanted: Direction, *, blackhole: bool = False) -> None:
    """Set or change one direction; its counters begin anew. Raises LabError.

    Under another handle each time: of the same one the kernel would keep a rate and a distribution that are not named.
    """
    words = netem_arguments(impairment(wanted, blackhole=blackhole))
    device = spec.devices[1 - direction]
    handle = _HANDLES[_qdisc(namespace, device).get("handle") == _HANDLES[0]]
    run([*in_namespace(namespace), "tc", "qdisc", "replace", "dev", device, "root", "handle", handle, *words])


def settings(namespace: str, spec: WireSpec) -> list[dict[str, Any]]:
    """What each direction does now, in tc's words."""
    return [dict(_qdisc(namespace, device)["options"]) for device in reversed(spec.devices)]


def counters(namespace: str, spec: WireSpec, direction: int) -> dict[str, int]:
    """Of one direction: frames and bits that left, frames dropped by loss or a full queue."""
    found = _qdisc(namespace, spec.devices[1 - direction])
    return {"frames": found["packets"], "bits": 8 * found["bytes"], "dropped": found["drops"]}


def _qdisc(namespace: str, device: str) -> dict[str, Any]:
    command = [*in_namespace(namespace), "tc", "-s", "-j", "qdisc", "show", "dev", device, "root"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        (found,) = json.loads(done.stdout)
    except ValueError as error:
        raise LabError(f"{namespace}, {device}: no netem there: {done.stderr.strip()}") from error
    return dict(found)
