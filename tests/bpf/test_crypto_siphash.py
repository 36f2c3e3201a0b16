# SPDX-License-Identifier: Apache-2.0
"""siphash.h against the reference implementation's vectors and the `siphash24` package."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from siphash24 import siphash24

from tests.bpf.crypto import RAN, Args, Entry
from veilnet import contract as c

pytestmark = pytest.mark.root

# vectors_sip64 of https://github.com/veorq/SipHash/blob/master/vectors.h: key 00 01 .. 0f, message 00 01 .. of as many
# bytes as the entry's number; those whose length our functions take.
REFERENCE = {
    0: "310e0edd47db6f72",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
    16: "db9bc2577fcc2a3f",
    24: "94af49f6c650adb8",
    32: "ce7cf2722f512771",
    40: "d0a704536ba93e0e",
    48: "51a9cb9ecba312e6",
    56: "bd838d3aafbf8db7",
}


@pytest.fixture(scope="module")
def sip() -> Iterator[Entry]:
    entry = Entry("sip")
    yield entry
    entry.close()


def run(sip: Entry, key: bytes, message: bytes, words: int = 0) -> dict[str, bytes]:
    """What each function makes of the beginning of `message`, which is VEIL_HS_BODY_LEN bytes."""
    done = sip(Args(key=key + bytes(16), words=words, text=message))
    assert done.verdict == RAN
    return {
        "sip8": done.aad[:8],
        "sip16": done.aad[8:],
        "sip15": done.tag[:8],
        "words": done.tag[8:],
        "all": done.aad_len,
    }


@pytest.mark.parametrize("length", sorted(REFERENCE))
def test_reference_vectors(sip: Entry, length: int) -> None:
    message = bytes(range(64)).ljust(c.HS_BODY_LEN, b"\0")
    got = run(sip, bytes(range(16)), message, length // 8)
    if length % 8 == 0:
        assert got["words"].hex() == REFERENCE[length]
    if f"sip{length}" in got:
        assert got[f"sip{length}"].hex() == REFERENCE[length]


def test_against_the_package(sip: Entry) -> None:
    rng = random.Random(1)
    for words in range(c.HS_BODY_LEN // 8 + 1):
        key, message = rng.randbytes(16), rng.randbytes(c.HS_BODY_LEN)
        want = {n: siphash24(message[:n], key=key).digest() for n in (8, 15, 16, 8 * words, c.HS_BODY_LEN)}
        got = run(sip, key, message, words)
        assert got == {
            "sip8": want[8],
            "sip16": want[16],
            "sip15": want[15],
            "words": want[8 * words],
            "all": want[c.HS_BODY_LEN],
        }
