# SPDX-License-Identifier: Apache-2.0
"""Relayed frames per second on one core: VeilNet's Guardian beside bare XDP redirect, kernel forwarding and coturn.

The generator, the same sealing one for all but coturn, runs on the core that relays and counts, so each figure includes
its cost. `frame` is the length of the Ethernet frame that is offered.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from itertools import product
from statistics import median

from bench.netrig import Rate, RelayRig
from bench.peers import coturn
from bench.report import Row, middle, row
from veilnet import contract as c
from veilnet.keyd.bpf_plane import BpfPlane
from veilnet.keyd.dataplane import Addrs, Circuit, SipKey

FRAMES = (128, 1400)
"""Bytes."""
SESSIONS = (1, 1024)
"""Senders, each with a port, and for VeilNet a link and a circuit, of its own."""
SOURCE, GUARDIAN = ("10.77.0.1", 40000), ("10.77.0.2", 41000)
OUT_LOCAL, OUT_REMOTE = ("10.77.1.2", 42000), ("10.77.1.1", 43000)
LABEL_IN, LABEL_OUT = 4711, 8150
LINK_OUT, LINK_IN = 1, 2


def rows(runs: int) -> list[Row]:
    """Two rows for each frame size and number of senders, then what compiling and loading the Guardian's program costs.

    The generator's time is in the first row's figures and in none of the second's.
    """
    result = []
    with RelayRig() as rig:
        for frame, sessions in product(FRAMES, SESSIONS):
            ours, bare, kernel = (relay(rig, frame, sessions, runs) for relay in (_guardian, _bare, _kernel))
            name = f"relay, sealed mode, {frame} B frames, {sessions} sender{'s' * (sessions > 1)}"
            peers = {"bare XDP redirect": bare.pps / 1e3, "kernel IPv4 forwarding": kernel.pps / 1e3}
            result.append(row(f"{name}, one core", "kpps", ours.pps / 1e3, peers))
            peers = {"bare XDP redirect": bare.per_softirq / 1e3} | _coturn(rig, frame, sessions, runs)
            result.append(row(f"{name}, per CPU second of relaying", "kpps", ours.per_softirq / 1e3, peers))
        result.append(row("compile and load veil_rx", "s", rig.compile_seconds["veil_rx"]))
    return result


def _coturn(rig: RelayRig, frame: int, sessions: int, runs: int) -> dict[str, float]:
    if not coturn.available():
        return {}
    lossless = [coturn.lossless(rig, frame, sessions) for _ in range(runs)]
    name = coturn.version()
    return {
        f"{name}, < 1 % loss, a core to itself and one for the kernel": median(r for r, _ in lossless) / 1e3,
        f"{name}, < 1 % loss": median(r for _, r in lossless) / 1e3,
        f"{name}, any loss": middle(runs, lambda: coturn.saturated(rig, frame, sessions)) / 1e3,
    }


def _flood(rig: RelayRig, frame: int, runs: int) -> Rate:
    """The run with the median rate."""
    generator = rig.load("bench_gen.c", "bench_gen_veil")
    return sorted((rig.flood(generator, frame) for _ in range(runs)), key=lambda rate: rate.pps)[runs // 2]


def _bare(rig: RelayRig, frame: int, sessions: int, runs: int) -> Rate:
    rig.attach(rig.relay, "r0", rig.load("bench_relay.c", "bench_bare", f"-DBENCH_OUT={rig.index['r1']}"))
    rig.aim(SOURCE, GUARDIAN, frame, sessions)
    return _flood(rig, frame, runs)


def _kernel(rig: RelayRig, frame: int, sessions: int, runs: int) -> Rate:
    """The kernel's own forwarding. The XDP_PASS program on r0 makes the veth take redirected frames at all."""
    rig.attach(rig.relay, "r0", rig.load("xdp_pass.c", "xdp_pass"))
    rig.aim(SOURCE, OUT_REMOTE, frame, sessions)
    return _flood(rig, frame, runs)


def _guardian(rig: RelayRig, frame: int, sessions: int, runs: int) -> Rate:
    """veil_rx over real maps: each frame is looked up, verified, taken by the window, sealed again and redirected."""
    plane = BpfPlane(rig.pin_dir)
    try:
        key = _circuits(rig, plane, sessions)
        rig.attach(rig.relay, "r0", rig.load("veil_rx.c", "veil_rx"))
        rig.aim(SOURCE, GUARDIAN, frame, sessions)
        rig.gen.key.mac[:], rig.gen.key.enc[:] = (_words(half) for half in (key.mac, key.enc))
        rig.gen.label, rig.gen.budget, rig.gen.counter = LABEL_IN, 7, 0
        before = plane.reasons()
        rate = _flood(rig, frame, runs)
        _all_forwarded(before, plane.reasons())
        return rate
    finally:
        plane.close()


def _circuits(rig: RelayRig, plane: BpfPlane, sessions: int) -> SipKey:
    """A link and a label for each sender, all to one link out; the key they share, since one generator sends."""
    plane.maps.config.fib_ifindex = rig.index["r0"]
    keys = [SipKey(os.urandom(16), os.urandom(16)) for _ in range(2)]
    _link(plane, LINK_OUT, (OUT_REMOTE, OUT_LOCAL), rig.index["r1"], keys[1])
    for at in range(sessions):
        _link(plane, LINK_IN + at, ((SOURCE[0], SOURCE[1] + at), GUARDIAN), rig.index["r0"], keys[0])
        plane.put_circuit(LABEL_IN + at, Circuit(c.CIRCUIT_FORWARD, LINK_IN + at, LINK_OUT, LABEL_OUT + at))
    return keys[0]


_End = tuple[str, int]


def _link(plane: BpfPlane, link: int, ends: tuple[_End, _End], ifindex: int, key: SipKey) -> None:
    """`ends`: remote, local."""
    plane.remove_link(link)
    plane.set_link_rx(link, 0, key)
    plane.set_link_tx(link, 0, key)
    (remote, remote_port), (local, local_port) = ends
    addrs = Addrs(IPv4Address(remote), remote_port, IPv4Address(local), local_port)
    plane.put_link(link, addrs, state=c.LINK_UP, ifindex=ifindex, mtu=1500)


def _words(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")


def _all_forwarded(before: dict[str, int], after: dict[str, int]) -> None:
    """A figure of frames that took another way through the program would be no figure of a relay."""
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    strange = {name: count for name, count in changed.items() if name not in ("OK_FORWARD", "PASS_NOT_IP")}
    if strange or not changed.get("OK_FORWARD"):
        raise RuntimeError(f"the Guardian did not forward everything: {changed}")
