# SPDX-License-Identifier: Apache-2.0
"""Every kind of datagram on the wire looks uniformly random (A3), and the test would notice if one did not."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from itertools import cycle

import pytest

from tests.protocol.pair import NOW, NOW_NS, answer, initiator, padded, responder, sessions
from tests.protocol.uniformity import (
    ALPHA,
    DEGREES,
    MIN_DATAGRAMS,
    assert_uniform,
    pairwise_equal,
    suspicious,
    threshold,
)
from veilnet.protocol.frame import seal_frame, seal_stream
from veilnet.protocol.handshake import Mode
from veilnet.protocol.knock import KnockSchedule, seal_knock
from veilnet.protocol.messages import Message, Ping
from veilnet.protocol.session import Session

BUDGET, LABEL = 7, 0x1234


@cache
def payloads(mode: Mode) -> tuple[bytes, ...]:
    """hello A and B, reply A and B, confirm of one handshake."""
    i, r = initiator(os.urandom, mode), responder(os.urandom)
    replies = [answer(r, hello) for hello in i.hellos()]
    for reply in replies:
        i.receive(reply)
    return (*map(padded, i.hellos()), *replies, padded(i.confirm()))


def handshake_datagrams(count: int) -> list[bytes]:
    """The worst case for hiding: the very same payloads again and again, as repeats are."""
    knock = KnockSchedule(bytes(32))
    slot = knock.slot_of(NOW)
    keys = (knock.knock_keys(slot), knock.reply_keys(slot))
    kinds = cycle([(keys[index in (2, 3)], payload) for index, payload in enumerate(payloads(Mode.LINK))])
    return [seal_knock(key, payload, os.urandom) for (key, payload), _ in zip(kinds, range(count), strict=False)]


def framed(bodies: list[bytes], session: Session, label: int) -> list[bytes]:
    """Counters from 0, one label and budget: a header as regular as it can be."""
    tx = session.keys().tx
    return [seal_frame(tx.mac, tx.enc, label, BUDGET, counter, body) for counter, body in enumerate(bodies)]


def control_datagrams(mode: Mode, message: Callable[[Session], Message], count: int) -> list[bytes]:
    session = sessions(mode, os.urandom(8).hex()).i
    fixed, bodies = message(session), list[bytes]()
    while len(bodies) < count:
        bodies += session.seal(fixed, NOW_NS)
    return framed(bodies[:count], session, 0 if mode is Mode.LINK else LABEL)


def data_datagrams(inner: bytes, count: int) -> list[bytes]:
    session = sessions(Mode.STREAM, os.urandom(8).hex()).i
    key = session.keys().tx.stream_key(0)
    bodies = [seal_stream(key, session.tx_hp, counter, 0, 0, inner) for counter in range(count)]
    return framed(bodies, session, LABEL)


KINDS: dict[str, Callable[[int], list[bytes]]] = {
    "handshake": handshake_datagrams,
    "link keepalive": lambda n: control_datagrams(Mode.LINK, lambda _: Ping(1), n),
    "hop control": lambda n: control_datagrams(Mode.HOP, lambda _: Ping(1), n),
    "stream control": lambda n: control_datagrams(Mode.STREAM, lambda _: Ping(1), n),
    "rekey": lambda n: control_datagrams(Mode.LINK, lambda session: session.start_rekey(), n),
    "data": lambda n: data_datagrams(bytes(200), n),
}


@pytest.mark.parametrize("kind", KINDS)
def test_datagrams_look_random(kind: str) -> None:
    assert_uniform(KINDS[kind](MIN_DATAGRAMS))


def test_one_constant_byte_is_noticed() -> None:
    noise = [bytearray(os.urandom(64)) for _ in range(MIN_DATAGRAMS)]
    for datagram in noise:
        datagram[17] = 0x2A
    assert set(suspicious([bytes(datagram) for datagram in noise])) == {17}


def test_one_byte_biased_in_one_of_ten_is_noticed() -> None:
    noise = [bytearray(os.urandom(64)) for _ in range(MIN_DATAGRAMS)]
    for datagram in noise[::10]:
        datagram[40] = 0
    assert set(suspicious([bytes(datagram) for datagram in noise])) == {40}


def test_bare_key_material_is_noticed() -> None:
    """An ML-KEM-768 public key without the ChaCha20 layer: 12-bit fields below 3329 give themselves away."""
    hellos = [initiator(os.urandom, Mode.LINK).hellos()[1][1:97] for _ in range(2000)]
    assert len(suspicious(hellos)) >= 32


def test_a_repeated_window_is_noticed() -> None:
    noise = [os.urandom(64) for _ in range(100)]
    assert pairwise_equal(noise) == 0
    assert pairwise_equal([*noise, noise[3][:8] + os.urandom(56)]) == 1


def upper_tail(x: float) -> float:
    """P(chi-square with 255 degrees > x), by the series of the incomplete gamma function (DLMF 8.7.1)."""
    a, half = DEGREES / 2, x / 2
    term = math.exp(a * math.log(half) - half - math.lgamma(a + 1))
    total, n = term, 0
    while term > total * 1e-18:
        n += 1
        term *= half / (a + n)
        total += term
    return 1 - total


@pytest.mark.parametrize(("offsets", "alpha"), [(1, 0.5), (1, 0.01), (100, 1e-2), (1232, ALPHA)])
def test_threshold_has_the_probability_that_it_says(offsets: int, alpha: float) -> None:
    assert upper_tail(threshold(offsets, alpha)) == pytest.approx(alpha / offsets, rel=0.1)
