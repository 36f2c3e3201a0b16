# SPDX-License-Identifier: Apache-2.0
"""BPF and the Python codec on the same random frames, in both directions."""

from __future__ import annotations

import random

import pytest

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import FORWARD, base, wire
from veilnet import contract as c
from veilnet.loader import libbpf
from veilnet.protocol.errors import RemoteError
from veilnet.protocol.frame import Frame, open_frame, seal_frame

pytestmark = pytest.mark.root
FRAMES = 5000


def key(rng: random.Random) -> o.SipKey:
    return o.SipKey(rng.randbytes(16), rng.randbytes(16))


def set_key(into: c.SipKey, value: o.SipKey) -> None:
    into.mac[:], into.enc[:] = list(h.words(value.mac)), list(h.words(value.enc))


def test_python_seals_bpf_opens_and_seals_again(world: h.World, rx: int) -> None:
    """What the relay sends is what the codec seals, byte for byte, and the codec opens it."""
    base(world)
    rng = random.Random(1)
    came, goes = world.links[1].rx[0], world.links[2].tx[0]
    for number in range(FRAMES):
        k_in, k_out = key(rng), key(rng)
        set_key(came.key, k_in)
        set_key(goes.key, k_out)
        label, budget, body = rng.randrange(1 << 24), rng.randrange(1, 256), rng.randbytes(rng.randint(16, 1400))
        goes.counter = counter = rng.randrange(c.COUNTER_LIMIT)
        world.circuits[FORWARD].out_label = label
        sent = seal_frame(k_in.mac, k_in.enc, FORWARD, budget, number, body)
        run = libbpf.test_run(rx, wire(sent))
        assert run.verdict == h.XDP_TX
        assert run.data[42:] == seal_frame(k_out.mac, k_out.enc, label, budget - 1, counter, body)
        assert open_frame(k_out.mac, k_out.enc, run.data[42:]) == Frame(label, budget - 1, counter, body)


def test_bpf_seals_python_opens(world: h.World, ctl: int) -> None:
    base(world)
    rng = random.Random(2)
    tx = world.links[2].tx[0]
    for _ in range(FRAMES):
        k_out = key(rng)
        set_key(tx.key, k_out)
        label, budget, body = rng.randrange(1 << 24), rng.randrange(256), rng.randbytes(rng.randint(16, 1400))
        tx.counter = counter = rng.randrange(c.COUNTER_LIMIT)
        run = libbpf.test_run(ctl, bytes(c.CtlReq(link=2, label=label, budget=budget)) + body)
        assert run.verdict == h.XDP_TX
        assert open_frame(k_out.mac, k_out.enc, run.data) == Frame(label, budget, counter, body)


def test_both_refuse_the_same(world: h.World, rx: int) -> None:
    """Frames with random bits flipped: BPF passes what the codec refuses, and takes what it takes."""
    base(world)
    rng = random.Random(3)
    answers = set()
    k_in = key(rng)
    set_key(world.links[1].rx[0].key, k_in)
    for number in range(FRAMES):
        sent = bytearray(seal_frame(k_in.mac, k_in.enc, 9, 1, number, rng.randbytes(40)))
        for _ in range(rng.randrange(3)):
            sent[rng.randrange(len(sent))] ^= 1 << rng.randrange(8)
        try:
            fine = open_frame(k_in.mac, k_in.enc, bytes(sent)).counter == number
        except RemoteError:
            fine = False
        verdict = libbpf.test_run(rx, wire(bytes(sent))).verdict
        assert verdict == (h.XDP_DROP if fine else h.XDP_PASS)  # label 9 is unknown: a taken frame is dropped
        answers.add(fine)
    assert answers == {True, False}
