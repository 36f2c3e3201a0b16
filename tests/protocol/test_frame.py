# SPDX-License-Identifier: Apache-2.0
"""Frames, stream bodies, replay window."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import mangled
from veilnet.contract import (
    BIND_LEN,
    COUNTER_LIMIT,
    FRAME_LEN,
    FRAME_MIN,
    INNER_MAX,
    LANE_CONTROL,
    LINK_WIN_WORDS,
    STREAM_LEN,
    STREAM_WIN_WORDS,
)
from veilnet.protocol.crypto import CryptographyProvider, h
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import (
    Frame,
    ReplayWindow,
    StreamFrame,
    mask_stream_header,
    open_frame,
    open_stream,
    open_stream_header,
    seal_frame,
    seal_stream,
    sip,
)

MAC, ENC, KEY = bytes(range(16)), bytes(range(16, 32)), bytes(range(32))
BODY = bytes(range(100, 164))
BOUND = FRAME_LEN + BIND_LEN

# SipHash-2-4, key 00..0f, input 00..n-1. n = 15: Aumasson, Bernstein, "SipHash", appendix A; n = 0:
# https://github.com/veorq/SipHash/blob/master/vectors.h
SIPHASH_VECTORS = {0: "310e0edd47db6f72", 15: "e545be4961ca29a1"}
# https://www.rfc-editor.org/rfc/rfc8439#section-2.4.2, block counter 1 there: skip the first block here
CHACHA_NONCE = bytes.fromhex("000000000000004a00000000")
CHACHA_TEXT = b"Ladies and Gentl"
CHACHA_START = "6e2e359a2568f98041ba0728dd0d6981"


@pytest.mark.parametrize(("length", "digest"), SIPHASH_VECTORS.items())
def test_siphash_is_siphash_2_4(length: int, digest: str) -> None:
    assert sip(MAC, bytes(range(length))).hex() == digest


def test_chacha20_starts_at_block_0_of_rfc_8439() -> None:
    stream = CryptographyProvider().chacha20(KEY, CHACHA_NONCE, bytes(64) + CHACHA_TEXT)
    assert stream[64:].hex() == CHACHA_START


def test_h_is_hmac_over_label_separator_data() -> None:
    """RFC 4231, section 4.3 (key "Jefe") can't hold a zero byte, so the reference is the standard library."""
    import hmac  # noqa: PLC0415 - the reference, used nowhere else

    for key in (b"Jefe", bytes(32), bytes(64)):
        assert h(key, b"mix", b"data") == hmac.digest(key, b"mix\0data", "sha256")


@given(
    label=st.integers(0, 2**24 - 1),
    budget=st.integers(0, 255),
    counter=st.integers(0, 2**32 - 1),
    body=st.binary(min_size=16, max_size=64),
)
def test_frame_round_trip(label: int, budget: int, counter: int, body: bytes) -> None:
    payload = seal_frame(MAC, ENC, label, budget, counter, body)
    assert len(payload) == 16 + len(body)
    assert open_frame(MAC, ENC, payload) == Frame(label, budget, counter, body)


def test_mangled_frames_do_not_open() -> None:
    payload = seal_frame(MAC, ENC, 7, 8, 9, BODY[:16])
    for bad in mangled(payload):
        if bad[:BOUND] == payload[:BOUND] and len(bad) >= FRAME_MIN:
            assert open_frame(MAC, ENC, bad).body == bad[16:]  # the tag covers the first 7 bytes of the body only
            continue
        with pytest.raises(RemoteError) as error:
            open_frame(MAC, ENC, bad)
        assert error.value.reason in (Reason.LENGTH, Reason.TAG)


def test_frame_under_other_keys_does_not_open() -> None:
    payload = seal_frame(MAC, ENC, 7, 8, 9, BODY)
    for mac, enc in ((ENC, ENC), (MAC, MAC), (ENC, MAC)):
        with pytest.raises(RemoteError):
            open_frame(mac, enc, payload)


@pytest.mark.parametrize(
    ("label", "budget", "counter", "body"),
    [(2**24, 0, 0, BODY), (0, 256, 0, BODY), (0, 0, 2**32, BODY), (-1, 0, 0, BODY), (0, 0, 0, BODY[:15])],
)
def test_fields_out_of_range_are_ours(label: int, budget: int, counter: int, body: bytes) -> None:
    with pytest.raises(LocalError):
        seal_frame(MAC, ENC, label, budget, counter, body)


@given(
    counter=st.integers(0, COUNTER_LIMIT - 1),
    lane=st.integers(0, LANE_CONTROL - 1),
    slot=st.sampled_from([0, 1]),
    inner=st.binary(max_size=100),
    pad=st.integers(0, 100),
)
def test_stream_round_trip(counter: int, lane: int, slot: int, inner: bytes, pad: int) -> None:
    body = seal_stream(KEY, MAC, counter, lane, slot, inner, pad)
    assert len(body) == STREAM_LEN + pad + len(inner)
    assert open_stream({slot: KEY}, MAC, body) == StreamFrame(counter, pad, lane, slot, inner)
    with pytest.raises(RemoteError, match="slot"):
        open_stream({1 - slot: KEY}, MAC, body)


def test_mangled_stream_bodies_do_not_open() -> None:
    for bad in mangled(seal_stream(KEY, MAC, 5, 0, 1, BODY, 3)):
        with pytest.raises(RemoteError) as error:
            open_stream({0: KEY, 1: KEY}, MAC, bad)
        assert error.value.reason in (Reason.LENGTH, Reason.FIELD, Reason.SLOT, Reason.AUTH)


def test_stream_lengths_at_the_limit() -> None:
    body = seal_stream(KEY, MAC, 5, 0, 1, bytes(INNER_MAX))
    assert open_stream({1: KEY}, MAC, body).inner == bytes(INNER_MAX)
    with pytest.raises(LocalError):
        seal_stream(KEY, MAC, 5, 0, 1, bytes(INNER_MAX), 1)
    with pytest.raises(LocalError):
        seal_stream(KEY, MAC, COUNTER_LIMIT, 0, 1, b"")
    with pytest.raises(LocalError):
        seal_stream(KEY, MAC, 5, LANE_CONTROL, 1, b"")


def test_reserved_stream_flags_are_refused() -> None:
    tag = bytes(16)
    for flag in range(1, 8):
        header = (1 << (56 + flag)).to_bytes(8, "little")
        with pytest.raises(RemoteError, match="flags"):
            open_stream_header(MAC, tag + mask_stream_header(MAC, tag, header) + BODY)


WINDOW_CASES = [  # (counters before, counter, taken?)
    ([], 0, True),
    ([0], 0, False),
    ([0], 1, True),
    ([31], 32, True),
    ([32], 31, True),
    ([2016], 1, True),
    ([2047], 31, True),
    ([2048], 31, False),
    ([2048], 32, True),
    ([2**32 - 1], 2**32 - 1, False),
    ([2**32 - 1], 0, True),  # another word, never used: fresh, taken once
    ([2**32 - 1, 0], 0, False),
    ([5, 2**31], 5, False),
]


@pytest.mark.parametrize(("before", "counter", "taken"), WINDOW_CASES)
def test_window_boundaries(before: list[int], counter: int, taken: bool) -> None:
    window = ReplayWindow(LINK_WIN_WORDS)
    for earlier in before:
        assert window.accept(earlier)
    assert window.check(counter) is taken
    assert window.accept(counter) is taken


@pytest.mark.parametrize("words", [LINK_WIN_WORDS, STREAM_WIN_WORDS])
def test_window_against_a_set(words: int) -> None:
    """Never twice; always, if fresh and less than (words - 1) * 32 behind the newest."""
    rng = random.Random(words)
    window, seen, newest = ReplayWindow(words), set[int](), 0
    for _ in range(30_000):
        counter = max(0, newest + rng.randint(-words * 40, 200))
        fresh = counter not in seen
        taken = window.accept(counter)
        assert not (taken and not fresh)
        if fresh and newest - counter < (words - 1) * 32:
            assert taken
        if taken:
            seen.add(counter)
            newest = max(newest, counter)
    assert window.used
