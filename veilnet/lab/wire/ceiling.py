# SPDX-License-Identifier: Apache-2.0
"""What the emulator carries on this machine, measured once and kept; links beyond it are refused."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from veilnet.lab.journal import LabError
from veilnet.lab.topology.model import DEFAULT_MTU, Direction
from veilnet.lab.wire.build import cache_dir, compiled, source_hash
from veilnet.lab.wire.control import MEMORY, Control, Port, Wire, start_emulator
from veilnet.lab.wire.impairment import ETHERNET_HEADER, Impairment
from veilnet.lab.wire.link import impairment

SMALL, LARGE = 64, DEFAULT_MTU + ETHERNET_HEADER  # bytes of a frame
_ROUNDS = 3  # the best counts: a neighbour's load is not the machine's ceiling
_SECONDS = 0.25
_SLOTS = 1024
# Below us, so that no kill leaves it behind.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Frames per second that leave one process under flood, all its wires together."""

    small: float
    large: float


def _load(path: Path) -> Ceiling | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Ceiling(**json.loads(path.read_text()))
    return None


def measured_ceiling(cache: Path | None = None) -> Ceiling:
    """Of this machine; measured in about three seconds unless the cache has it for this kernel. Needs root."""
    path = (cache or cache_dir()) / source_hash() / f"ceiling-{platform.release()}-{os.cpu_count()}.json"
    known = _load(path)
    if known is not None:
        return known
    compiled("emulator"), compiled("probe")
    here = f"import {__name__} as me; raise SystemExit(me.main())"
    line = ["unshare", "--net", "--", sys.executable, "-c", here]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"the wire emulator's ceiling can't be measured: {done.stderr.strip()[-500:]}"
        raise LabError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(done.stdout)
    fresh.replace(path)
    found = _load(path)
    assert found is not None
    return found


def check(wanted: Direction | Impairment, mtu: int = DEFAULT_MTU) -> None:
    """Raise LabError for a rate that the emulator can't carry in frames of `mtu`, and for a rate and delay that keep
    more on the way than its memory holds."""
    found = impairment(wanted) if isinstance(wanted, Direction) else wanted
    if found.rate is None:
        return
    on_the_way = found.rate / 8 * (found.delay + found.jitter)
    if on_the_way > MEMORY:
        msg = (
            f"rate {found.rate / 1e6:g} Mbit/s with {found.delay * 1e3:g} ms delay keeps {on_the_way / 1e6:.0f} MB on"
            f" the way; the wire emulator holds {MEMORY / 1e6:.0f} MB. Take a lower rate or delay"
        )
        raise LabError(msg)
    size = mtu + ETHERNET_HEADER
    needed, carried = found.rate / 8 / size, measured_ceiling().large
    if needed > carried:
        msg = (
            f"rate {found.rate / 1e6:g} Mbit/s is {needed:,.0f} frames of {size} bytes a second; the wire emulator"
            f" carries {carried:,.0f} on this machine. Take a rate up to {carried * size * 8 / 1e6:.0f} Mbit/s, or none"
        )
        raise LabError(msg)


def _cable(node: str, port: str) -> None:
    subprocess.run(["ip", "link", "add", "name", node, "type", "veth", "peer", "name", port], check=True)
    for device in (node, port):
        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
        subprocess.run(["ip", "link", "set", "dev", device, "up"], check=True)


def flood(control: Control, wires: dict[str, str], size: int, seconds: float) -> float:
    """Frames per second that leave the wires (name: device before it) while all their devices are flooded."""

    def out() -> int:
        return sum(control.counters(name, 0).frames_out for name in wires)

    line = [str(compiled("probe")), "flood", "-"]
    floods = [
        subprocess.Popen([*line, device, str(size), str(seconds + 0.2)], stdout=subprocess.DEVNULL)
        for device in wires.values()
    ]
    time.sleep(0.1)
    before, start = out(), time.monotonic()
    time.sleep(seconds)
    rate = (out() - before) / (time.monotonic() - start)
    for process in floods:
        process.wait()
    return rate


def rig(control: Control, count: int, slots: int = _SLOTS) -> dict[str, str]:
    """`count` wires in this namespace, each with a cable to both ends; name of the wire: device before it."""
    wires = {}
    for n in range(count):
        for side in "ab":
            _cable(f"n{n}{side}", f"w{n}{side}")
        control.add(Wire(f"wire{n}", (Port(f"w{n}a"), Port(f"w{n}b")), slots=slots))
        wires[f"wire{n}"] = f"n{n}a"
    return wires


def main() -> int:
    """Measures inside a namespace of its own; JSON on standard output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "control"
        start_emulator(path, Path(folder) / "log", _WITH_US)
        with Control(path) as control:
            wires = rig(control, 1)
            best = [max(flood(control, wires, size, _SECONDS) for _ in range(_ROUNDS)) for size in (SMALL, LARGE)]
            control.stop()
    print(json.dumps(asdict(Ceiling(*best))))
    return 0
