# SPDX-License-Identifier: Apache-2.0
"""chacha20.h against RFC 8439, and its assembly against the twin in C."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tests.bpf import rfc8439
from tests.bpf.crypto import RAN, Args, Entry

pytestmark = pytest.mark.root

BLOCK = 64


@pytest.fixture(scope="module", params=["asm", "c"])
def block(request: pytest.FixtureRequest) -> Iterator[Entry]:
    entry = Entry("block", *(["-DVEIL_CHACHA20_C"] if request.param == "c" else []))
    yield entry
    entry.close()


@pytest.fixture(scope="module")
def rounds() -> Iterator[Entry]:
    entry = Entry("rounds")
    yield entry
    entry.close()


@pytest.fixture(scope="module")
def rounds2() -> Iterator[Entry]:
    entry = Entry("rounds2")
    yield entry
    entry.close()


def stream(block: Entry, key: bytes, nonce: bytes, counter: int) -> bytes:
    done = block(Args(key=key, nonce=nonce, counter=counter, text=bytes(BLOCK)))
    assert done.verdict == RAN
    return done.text


@pytest.mark.parametrize("name", rfc8439.BLOCKS)
def test_blocks(block: Entry, name: str) -> None:
    v = rfc8439.BLOCKS[name]
    assert stream(block, bytes.fromhex(v.key), bytes.fromhex(v.nonce), v.counter).hex() == v.stream


@pytest.mark.parametrize("name", rfc8439.CIPHERS)
def test_ciphers(block: Entry, name: str) -> None:
    v = rfc8439.CIPHERS[name]
    plain, got = bytes.fromhex(v.plain), b""
    for at in range(0, len(plain), BLOCK):
        key_stream = stream(block, bytes.fromhex(v.key), bytes.fromhex(v.nonce), v.counter + at // BLOCK)
        got += bytes(a ^ b for a, b in zip(plain[at : at + BLOCK], key_stream, strict=False))
    assert got.hex() == v.cipher


def test_key_generation(block: Entry) -> None:
    v = rfc8439.KEY_GENERATION
    assert stream(block, bytes.fromhex(v.key), bytes.fromhex(v.nonce), v.counter)[:32].hex() == v.stream


def test_random_blocks(block: Entry) -> None:
    rng = random.Random(2)
    for counter in [0, 1, 2**31, 2**32 - 1, *(rng.getrandbits(32) for _ in range(60))]:
        key, nonce = rng.randbytes(32), rng.randbytes(12)
        cipher = Cipher(algorithms.ChaCha20(key, struct.pack("<I", counter) + nonce), None)
        assert stream(block, key, nonce, counter) == cipher.encryptor().update(bytes(BLOCK))


def states(rng: random.Random) -> Iterator[bytes]:
    """States that no key gives, too: all zero, all one, one bit each, random."""
    yield bytes(BLOCK)
    yield b"\xff" * BLOCK
    for bit in range(8 * BLOCK):
        yield (1 << bit).to_bytes(BLOCK, "little")
    for _ in range(500):
        yield rng.randbytes(BLOCK)


def test_assembly_is_its_twin(rounds: Entry) -> None:
    seen = set()
    for state in states(random.Random(3)):
        done = rounds(Args(text=state + bytes(2 * BLOCK)))
        assert done.verdict == RAN
        assert done.text[BLOCK : 2 * BLOCK] == done.text[2 * BLOCK :]
        seen.add(done.text[BLOCK:])
    assert len(seen) == 2 + 8 * BLOCK + 500, "the rounds are a permutation"


def test_two_block_assembly_is_its_twin(rounds2: Entry) -> None:
    rng = random.Random(4)
    for state in states(rng):
        pair = state + rng.randbytes(BLOCK) if rng.getrandbits(1) else rng.randbytes(BLOCK) + state
        done = rounds2(Args(text=pair + bytes(4 * BLOCK)))
        assert done.verdict == RAN
        assert done.text[2 * BLOCK : 4 * BLOCK] == done.text[4 * BLOCK :]
        assert done.text[2 * BLOCK : 4 * BLOCK] != pair
