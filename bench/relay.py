# SPDX-License-Identifier: Apache-2.0
"""Relayed frames per second on one core: VeilNet's Guardian beside bare XDP redirect, kernel forwarding and coturn.

The generator, the same sealing one for all but coturn, runs on the core that relays and counts, so each figure includes
its cost. `frame` is the length of the Ethernet frame that is offered.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from statistics import median

from bench.netrig import RelayRig
from bench.peers import coturn
from bench.report import Row, middle, row
from veilnet import contract as c
from veilnet.keyd.bpf_plane import BpfPlane
from veilnet.keyd.dataplane import Addrs, Circuit, SipKey

FRAMES = (128, 1400)
"""Bytes."""
SOURCE, GUARDIAN = ("10.77.0.1", 40000), ("10.77.0.2", 41000)
OUT_LOCAL, OUT_REMOTE = ("10.77.1.2", 42000), ("10.77.1.1", 43000)
LABEL_IN, LABEL_OUT = 4711, 815
LINK_IN, LINK_OUT = 1, 2


def rows(runs: int) -> list[Row]:
    """One row per frame size, then what it costs to compile and load the Guardian's program."""
    result = []
    with RelayRig() as rig:
        for frame in FRAMES:
            ours, peers = _guardian(rig, frame, runs), _peers(rig, frame, runs)
            result.append(row(f"relay, sealed mode, {frame} B frames, one core", "kpps", ours, peers))
        result.append(row("compile and load veil_rx", "s", rig.compile_seconds["veil_rx"]))
    return result


def _peers(rig: RelayRig, frame: int, runs: int) -> dict[str, float]:
    peers = {"bare XDP redirect": _bare(rig, frame, runs), "kernel IPv4 forwarding": _kernel(rig, frame, runs)}
    if coturn.available():
        lossless = [coturn.lossless(rig, frame) for _ in range(runs)]
        name = coturn.version()
        peers[f"{name}, < 1 % loss, a core to itself and one for the kernel"] = median(r for r, _ in lossless) / 1e3
        peers[f"{name}, < 1 % loss, per CPU second"] = median(r for _, r in lossless) / 1e3
        peers[f"{name}, any loss, per CPU second"] = middle(runs, lambda: coturn.saturated(rig, frame)) / 1e3
    return peers


def _flood(rig: RelayRig, frame: int, runs: int) -> float:
    generator = rig.load("bench_gen.c", "bench_gen_veil")
    return middle(runs, lambda: rig.flood(generator, frame).pps) / 1e3


def _bare(rig: RelayRig, frame: int, runs: int) -> float:
    rig.attach(rig.relay, "r0", rig.load("bench_relay.c", "bench_bare", f"-DBENCH_OUT={rig.index['r1']}"))
    rig.aim(SOURCE, GUARDIAN, frame)
    return _flood(rig, frame, runs)


def _kernel(rig: RelayRig, frame: int, runs: int) -> float:
    """The kernel's own forwarding. The XDP_PASS program on r0 makes the veth take redirected frames at all."""
    rig.attach(rig.relay, "r0", rig.load("xdp_pass.c", "xdp_pass"))
    rig.aim(SOURCE, OUT_REMOTE, frame)
    return _flood(rig, frame, runs)


def _guardian(rig: RelayRig, frame: int, runs: int) -> float:
    """veil_rx over real maps: each frame is looked up, verified, taken by the window, sealed again and redirected."""
    plane = BpfPlane(rig.pin_dir)
    try:
        key = _circuit(rig, plane)
        rig.attach(rig.relay, "r0", rig.load("veil_rx.c", "veil_rx"))
        rig.aim(SOURCE, GUARDIAN, frame)
        rig.gen.key.mac[:], rig.gen.key.enc[:] = (_words(half) for half in (key.mac, key.enc))
        rig.gen.label, rig.gen.budget, rig.gen.counter = LABEL_IN, 7, 0
        before = plane.reasons()
        rate = _flood(rig, frame, runs)
        _all_forwarded(before, plane.reasons())
        return rate
    finally:
        plane.close()


def _circuit(rig: RelayRig, plane: BpfPlane) -> SipKey:
    """Two links with fresh keys and a label from the first to the second; returns the key to send with."""
    keys = [SipKey(os.urandom(16), os.urandom(16)) for _ in range(2)]
    plane.maps.config.fib_ifindex = rig.index["r0"]
    ends = ((LINK_IN, SOURCE, GUARDIAN, "r0"), (LINK_OUT, OUT_REMOTE, OUT_LOCAL, "r1"))
    for (link, remote, local, device), key in zip(ends, keys, strict=True):
        plane.remove_link(link)
        plane.set_link_rx(link, 0, key)
        plane.set_link_tx(link, 0, key)
        addrs = Addrs(IPv4Address(remote[0]), remote[1], IPv4Address(local[0]), local[1])
        plane.put_link(link, addrs, state=c.LINK_UP, ifindex=rig.index[device], mtu=1500)
    plane.put_circuit(LABEL_IN, Circuit(c.CIRCUIT_FORWARD, LINK_IN, LINK_OUT, LABEL_OUT))
    return keys[0]


def _words(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")


def _all_forwarded(before: dict[str, int], after: dict[str, int]) -> None:
    """A figure of frames that took another way through the program would be no figure of a relay."""
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    strange = {name: count for name, count in changed.items() if name not in ("OK_FORWARD", "PASS_NOT_IP")}
    if strange or not changed.get("OK_FORWARD"):
        raise RuntimeError(f"the Guardian did not forward everything: {changed}")
