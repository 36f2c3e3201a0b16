# SPDX-License-Identifier: Apache-2.0
"""poly1305.h against RFC 8439, and against integers where carries and the modulus are tight."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.bpf import rfc8439
from tests.bpf.crypto import RAN, Args, Entry
from veilnet import contract as c

pytestmark = pytest.mark.root

P = 2**130 - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


@pytest.fixture(scope="module")
def poly1305() -> Iterator[Entry]:
    entry = Entry("poly1305")
    yield entry
    entry.close()


def mac(poly1305: Entry, key: bytes, message: bytes) -> bytes:
    """Tag by the program: whole blocks go as text, what remains goes in `aad` with its 1 bit set."""
    whole = len(message) // 16 * 16
    rest = message[whole:] + b"\1" if message[whole:] else b""
    done = poly1305(Args(key=key, aad=rest, words=bool(rest), text=message[:whole]))
    assert done.verdict == RAN
    return done.tag


def model(key: bytes, message: bytes) -> bytes:
    """Section 2.5.1, on integers."""
    r, s = int.from_bytes(key[:16], "little") & CLAMP, int.from_bytes(key[16:], "little")
    h = 0
    for at in range(0, len(message), 16):
        h = (h + int.from_bytes(message[at : at + 16] + b"\1", "little")) * r % P
    return ((h + s) % 2**128).to_bytes(16, "little")


@pytest.mark.parametrize("name", rfc8439.MACS)
def test_vectors(poly1305: Entry, name: str) -> None:
    v = rfc8439.MACS[name]
    assert mac(poly1305, bytes.fromhex(v.key), bytes.fromhex(v.message)).hex() == v.tag


@pytest.mark.parametrize("r", [b"\xff" * 16, b"\1" + bytes(15), b"\2" + bytes(15), bytes(15) + b"\x0f", b"\xfc" * 16])
@pytest.mark.parametrize("fill", [0x00, 0x01, 0x80, 0xFB, 0xFE, 0xFF])
def test_extremes(poly1305: Entry, r: bytes, fill: int) -> None:
    for s in (bytes(16), b"\xff" * 16):
        for blocks in (1, 2, 3, 4, 17, c.INNER_MAX // 16):
            message = bytes([fill]) * (16 * blocks)
            assert mac(poly1305, r + s, message) == model(r + s, message)


def preimage(rng: random.Random, r: int, target: int) -> bytes:
    """Two blocks after which h = target for a clamped r != 0: the second takes up what the first left."""
    for _ in range(1000):
        first = rng.getrandbits(128)
        h = (first + 2**128) * r % P
        second = (target * pow(r, -1, P) - h) % P
        if 2**128 <= second < 2**129:
            return first.to_bytes(16, "little") + (second - 2**128).to_bytes(16, "little")
    raise AssertionError("no such message")


@pytest.mark.parametrize("target", [0, 1, 4, 5, 2**32 - 1, 2**64, 2**96 - 1, 2**128 - 1, 2**128, P - 5, P - 1])
def test_final_reduction(poly1305: Entry, target: int) -> None:
    """h ends at chosen residues next to 0, the modulus and the limbs' borders."""
    rng = random.Random(target)
    for _ in range(20):
        r = rng.getrandbits(128) & CLAMP
        key = r.to_bytes(16, "little") + rng.randbytes(16)
        message = preimage(rng, r, target)
        assert mac(poly1305, key, message) == model(key, message)


def test_random(poly1305: Entry) -> None:
    rng = random.Random(4)
    for length in range(0, c.INNER_MAX + 1, 7):
        key, message = rng.randbytes(32), rng.randbytes(length)
        assert mac(poly1305, key, message) == model(key, message)
