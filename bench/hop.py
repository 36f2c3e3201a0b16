# SPDX-License-Identifier: Apache-2.0
"""What one hop costs in veil_rx: nanoseconds a frame in BPF_PROG_TEST_RUN, which adds the empty program's cost to all.

The relay is looped back on itself: what it sends is a valid frame for it to receive, with the next counter, so that
every repetition of one test run is a full hop. The hop budget ends the loop after 255 frames; the cost of a frame is
the difference between a long and a short run, which leaves out the cold first frames: after 150 frames nearly all of 64
links have been touched (after 50 half of them had not, and their first misses made up most of what 64 links seemed to
cost). Needs root.

Two things differ from real traffic. A frame is at hand in the cache, not fresh from a NIC; and it depends on the one
before it, so that two frames never overlap. The rows with many links and circuits tell what cold map entries add: with
one link the circuits alone are cold, with 64 links at random the keys, windows and addresses are, too.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Row, row
from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import HS_BODY, KNOCK, PORT, STRANGER, packet
from veilnet import contract as c
from veilnet.loader import libbpf, pins, program

SHORT, LONG = 150, 250
CALLS = 100
REPEAT = 200_000
EGRESS = 7
KEY = o.SipKey(bytes(range(16)), bytes(range(16, 32)))
REFERENCE = """
#include <uapi/linux/bpf.h>
int empty(struct xdp_md *ctx) { return XDP_TX; }
int redirect(struct xdp_md *ctx) { return bpf_redirect(7, 0); }
"""


@contextmanager
def _world() -> Iterator[h.World]:
    directory = pins.instance_dir(f"bench{os.getpid()}")
    pins.create_maps(directory)
    world = h.World(directory)
    try:
        yield world
    finally:
        world.close()
        pins.remove_dir(directory)


def _flow(index: int) -> o.Flow:
    return o.Flow(f"10.{index >> 8}.{index & 255}.1", 40000, "192.0.2.9", PORT)


class Loop:
    """`circuits` labels over `links` links, each handing over to the next; every frame sent is one to be received."""

    def __init__(self, world: h.World, fd: int, links: int, circuits: int, shuffle: bool) -> None:
        world.reset()
        world.config.bucket_seed, world.config.knock_port = 0x0123456789ABCDEF, PORT
        self.world, self.fd, self.at = world, fd, 0
        rng = random.Random(7)
        self.labels = list(range(1, circuits + 1))
        if shuffle:
            rng.shuffle(self.labels)
        self.link_of = [rng.randint(1, links) for _ in self.labels]
        for index in range(1, links + 1):
            flow = _flow(index)
            world.put_link(index, flow, rx=(KEY, None), tx=(KEY, None), egress=EGRESS)
            back = world.links[index].addrs
            back.remote[:4], back.local[:4] = bytes(back.local)[:4], bytes(back.remote)[:4]
            back.rport, back.lport = flow.dport, flow.sport
        for i, label in enumerate(self.labels):
            j = (i + 1) % circuits
            world.put_circuit(
                label,
                kind=c.CIRCUIT_FORWARD,
                in_link=self.link_of[i],
                out_link=self.link_of[j],
                out_label=self.labels[j],
            )

    def run(self, frames: int, body: bytes) -> float:
        """Nanoseconds for `frames` hops in one test run."""
        link = self.link_of[self.at]
        tx = self.world.links[link].tx[0]
        payload = o.seal(KEY, self.labels[self.at], 255, tx.counter, body)
        tx.counter += 1
        run = libbpf.test_run(self.fd, packet(payload, _flow(link)), repeat=frames)
        assert run.verdict == h.XDP_REDIRECT, run.verdict
        self.at = (self.at + frames) % len(self.labels)
        return float(run.duration_ns * frames)

    def cost(self, body: bytes) -> float:
        """Median nanoseconds a hop."""
        return statistics.median((self.run(LONG, body) - self.run(SHORT, body)) / (LONG - SHORT) for _ in range(CALLS))


def _cost(fd: int, data: bytes, verdict: int) -> float:
    run = libbpf.test_run(fd, data, repeat=REPEAT)
    assert run.verdict == verdict, run.verdict
    return float(run.duration_ns)


def _reference(world: h.World, name: str) -> program.Program:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "reference.c"
        source.write_text(REFERENCE, encoding="ascii")
        return program.load(str(source), world.pins, function=name)


def _row(name: str, runs: int, measure: Callable[[], float], beside: Callable[[], float]) -> Row:
    """Median of `runs`, each measured beside the empty program."""
    pairs = [(measure(), beside()) for _ in range(runs)]
    ours, peer = (statistics.median(values) for values in zip(*pairs, strict=True))
    return row(name, "ns/frame", round(ours, 1), {"empty program": round(peer, 1)})


def rows(runs: int = 5) -> list[Row]:
    """`ours` is the median, the empty program's cost included."""
    body = random.Random(1).randbytes(112)
    with _world() as world:
        rx = program.load("veil_rx.c", world.pins)
        empty, redirect = (_reference(world, name) for name in ("empty", "redirect"))
        data = packet(o.seal(KEY, 1, 1, 1, body), _flow(1))

        def beside() -> float:
            return _cost(empty.fd, data, h.XDP_TX)

        found = [_row("bare redirect", runs, lambda: _cost(redirect.fd, data, h.XDP_REDIRECT), beside)]
        for name, links, circuits, shuffle in (
            ("hop, one link, one circuit (hot maps)", 1, 1, False),
            ("hop, one link, 60,000 circuits in order", 1, 60_000, False),
            ("hop, 64 links at random", 64, 64, False),
            ("hop, 64 links at random, 60,000 circuits in order", 64, 60_000, False),
            ("hop, 64 links and 60,000 circuits at random", 64, 60_000, True),
        ):
            loop = Loop(world, rx.fd, links, circuits, shuffle)
            found.append(_row(name, runs, lambda loop=loop: loop.cost(body), beside))  # type: ignore[misc]
        found += _refused(world, rx.fd, runs, body, beside)
        for loaded in (rx, empty, redirect):
            loaded.close()
    return found


def _refused(world: h.World, fd: int, runs: int, body: bytes, beside: Callable[[], float]) -> list[Row]:
    """What a flood of packets that are not taken costs."""
    Loop(world, fd, 1, 1, False)
    world.put_knock(0, KNOCK[0])
    world.put_knock(1, KNOCK[1])
    other = o.SipKey(bytes(16), bytes(16))
    wrong_digest = o.handshake(KNOCK[1], HS_BODY, digest_xor=1)
    cases = {
        "refused: unknown 5-tuple": packet(o.seal(KEY, 1, 1, 1, body), STRANGER),
        "refused: known link, wrong tag": packet(o.seal(other, 1, 1, 1, body), _flow(1)),
        "refused: knock's length, wrong tag in both slots": packet(o.handshake(KNOCK[2], HS_BODY), STRANGER),
        "refused: knock tag right, digest over 1216 bytes wrong": packet(wrong_digest, STRANGER),
    }
    return [
        _row(name, runs, lambda data=data: _cost(fd, data, h.XDP_PASS), beside)  # type: ignore[misc]
        for name, data in cases.items()
    ]


if __name__ == "__main__":
    for entry in rows():
        print(entry)
