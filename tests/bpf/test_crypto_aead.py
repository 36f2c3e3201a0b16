# SPDX-License-Identifier: Apache-2.0
"""aead.h against RFC 8439 and OpenSSL's ChaCha20-Poly1305, and what it does with forgeries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.bpf import rfc8439
from tests.bpf.crypto import RAN, REFUSED, TEXT, Args, Entry
from veilnet import contract as c

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["asm", "c"])
def programs(request: pytest.FixtureRequest) -> Iterator[tuple[Entry, Entry]]:
    flags = ["-DVEIL_CHACHA20_C"] if request.param == "c" else []
    pair = Entry("seal", *flags), Entry("open", *flags)
    yield pair
    for entry in pair:
        entry.close()


def sealed(args: Args) -> Args:
    """`args` with its text enciphered and tagged by `cryptography`."""
    out = ChaCha20Poly1305(args.key).encrypt(args.nonce, args.text, args.aad)
    return replace(args, text=out[:-16], tag=out[-16:])


@pytest.mark.parametrize("name", rfc8439.AEADS)
def test_vectors(programs: tuple[Entry, Entry], name: str) -> None:
    seal, open_ = programs
    key, nonce, aad, plain, cipher, tag = (bytes.fromhex(value) for value in rfc8439.AEADS[name])
    done = seal(Args(key=key, nonce=nonce, aad=aad, text=plain))
    assert (done.verdict, done.text, done.tag) == (RAN, cipher, tag)
    done = open_(Args(key=key, nonce=nonce, aad=aad, text=cipher, tag=tag))
    assert (done.verdict, done.text) == (RAN, plain)


def test_every_length(programs: tuple[Entry, Entry]) -> None:
    seal, open_ = programs
    rng = random.Random(5)
    for length in range(c.INNER_MAX + 1):
        args = Args(key=rng.randbytes(32), nonce=rng.randbytes(12), aad=rng.randbytes(8), text=rng.randbytes(length))
        want = sealed(args)
        done = seal(args)
        assert (done.verdict, done.packet) == (RAN, want.pack()), length
        back = open_(want)
        assert (back.verdict, back.packet) == (RAN, replace(args, tag=want.tag).pack()), length


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 63, 64, 65])
def test_every_flipped_bit_is_refused(programs: tuple[Entry, Entry], length: int) -> None:
    """Key, nonce, AAD, tag and text: the packet comes back as it went in."""
    open_ = programs[1]
    rng = random.Random(length)
    args = Args(key=rng.randbytes(32), nonce=rng.randbytes(12), aad=rng.randbytes(8), text=rng.randbytes(length))
    good = sealed(args).pack()
    spans = [(0, 44), (48, 56), (72, 88), (TEXT, TEXT + length)]
    for first, last in spans:
        for bit in range(8 * first, 8 * last):
            forged = bytearray(good)
            forged[bit // 8] ^= 1 << bit % 8
            done = open_(_raw(bytes(forged)))
            assert (done.verdict, done.packet) == (REFUSED, bytes(forged)), bit


@pytest.mark.parametrize("length", [576, 1408, c.INNER_MAX])
def test_forged_long_texts_are_refused(programs: tuple[Entry, Entry], length: int) -> None:
    open_ = programs[1]
    rng = random.Random(length)
    good = sealed(
        Args(key=rng.randbytes(32), nonce=rng.randbytes(12), aad=rng.randbytes(8), text=rng.randbytes(length))
    )
    for bit in range(0, 8 * length, 37):
        text = bytearray(good.text)
        text[bit // 8] ^= 1 << bit % 8
        forged = replace(good, text=bytes(text))
        done = open_(forged)
        assert (done.verdict, done.packet) == (REFUSED, forged.pack())
    for cut in (1, 16, length // 2):
        forged = replace(good, text=good.text[:-cut])
        done = open_(forged)
        assert (done.verdict, done.packet) == (REFUSED, forged.pack())


def _raw(packet: bytes) -> Args:
    """The arguments that a packed packet holds."""
    args = Args(
        key=packet[:32],
        nonce=packet[32:44],
        counter=int.from_bytes(packet[44:48], "little"),
        aad=packet[48 : 48 + int.from_bytes(packet[64:72], "little")],
        tag=packet[72:88],
        words=int.from_bytes(packet[88:96], "little"),
        text=packet[TEXT:],
    )
    assert args.pack() == packet
    return args
