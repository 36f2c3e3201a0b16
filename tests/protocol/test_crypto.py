# SPDX-License-Identifier: Apache-2.0
"""Providers against published vectors, and every decoder against arbitrary bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.pair import ALICE, NOW, NOW_NS, ORIGIN, PROVIDER, initiator, reproducible, responder, sessions
from veilnet.contract import HS_BODY_LEN, HS_LEN
from veilnet.protocol.crypto import wipe
from veilnet.protocol.errors import LocalError, Reason, RemoteError, VeilError
from veilnet.protocol.frame import open_frame, open_stream
from veilnet.protocol.handshake import Mode
from veilnet.protocol.knock import PAYLOAD_LEN, KnockSchedule, open_body, open_knock
from veilnet.protocol.messages import Ping, decode_message

# https://www.rfc-editor.org/rfc/rfc7748#section-6.1
ALICE_PRIVATE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB_PRIVATE = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
# https://www.rfc-editor.org/rfc/rfc8439#section-2.8.2
AEAD_KEY = bytes(range(0x80, 0xA0))
AEAD_NONCE = bytes.fromhex("070000004041424344454647")
AEAD_AAD = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
AEAD_PLAIN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
AEAD_TAG = "1ae10b594f09e26a7e902ecbd0600691"
# https://www.rfc-editor.org/rfc/rfc7748#section-6.1 wants these refused; 0 and 1 have order 4 and 1 on the curve
LOW_ORDER = [bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")]


def test_x25519() -> None:
    alice, bob = (PROVIDER.dh_key(bytes.fromhex(private)) for private in (ALICE_PRIVATE, BOB_PRIVATE))
    assert (alice.public.hex(), bob.public.hex()) == (ALICE_PUBLIC, BOB_PUBLIC)
    assert alice.exchange(bob.public).hex() == bob.exchange(alice.public).hex() == SHARED


@pytest.mark.parametrize("point", LOW_ORDER, ids=["0", "1", "-1"])
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(RemoteError, match="key"):
        ALICE.dh.exchange(point)


def test_chacha20_poly1305() -> None:
    sealed = PROVIDER.aead_seal(AEAD_KEY, AEAD_NONCE, AEAD_AAD, AEAD_PLAIN)
    assert sealed[-16:].hex() == AEAD_TAG
    assert PROVIDER.aead_open(AEAD_KEY, AEAD_NONCE, AEAD_AAD, sealed) == AEAD_PLAIN
    with pytest.raises(RemoteError, match="auth"):
        PROVIDER.aead_open(AEAD_KEY, AEAD_NONCE, b"", sealed)


def test_chacha20_is_its_own_inverse_at_any_time() -> None:
    """The kept context starts at block 0 on each call."""
    first = PROVIDER.chacha20(AEAD_KEY, AEAD_NONCE, AEAD_PLAIN)
    PROVIDER.chacha20(AEAD_KEY, bytes(12), AEAD_PLAIN[:7])
    assert PROVIDER.chacha20(AEAD_KEY, AEAD_NONCE, first) == AEAD_PLAIN


def test_implicit_rejection() -> None:
    ciphertext, secret = PROVIDER.encaps(ALICE.kem.public)
    assert ALICE.kem.decaps(ciphertext) == secret
    forged = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert ALICE.kem.decaps(forged) == ALICE.kem.decaps(forged) != secret


def test_wipe() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    wipe(None)
    assert secret == bytes(6)


def test_error_names_its_reason() -> None:
    assert str(RemoteError(Reason.TAG)) == "tag"
    assert str(RemoteError(Reason.TAG, "frame")) == "tag: frame"
    assert issubclass(LocalError, VeilError) and issubclass(RemoteError, VeilError)


PAIR = sessions(Mode.STREAM, "fuzz")
KNOCK = KnockSchedule(bytes(32)).knock_keys(7)
RESPONDER = responder(reproducible("fuzz responder"))
INITIATOR = initiator(reproducible("fuzz initiator"), Mode.LINK)
DECODERS: dict[str, Callable[[bytes], object]] = {
    "frame": lambda data: open_frame(bytes(16), bytes(16), data),
    "stream": lambda data: open_stream({0: bytes(32), 1: bytes(32)}, bytes(16), data),
    "knock": lambda data: open_knock(KNOCK, data),
    "body": lambda data: open_body(KNOCK, data),
    "message": decode_message,
    "responder": lambda data: RESPONDER.receive(data, ORIGIN, NOW),
    "initiator": INITIATOR.receive,
    "session": PAIR.r.open,
}


@pytest.mark.parametrize("name", DECODERS)
@given(
    head=st.binary(max_size=80),
    length=st.sampled_from([None, PAYLOAD_LEN, HS_LEN, HS_BODY_LEN, 1193]),
    fill=st.sampled_from([b"\0", b"\xff", b"\x2a"]),
)
@settings(max_examples=150)
def test_arbitrary_bytes_raise_nothing_undeclared(name: str, head: bytes, length: int | None, fill: bytes) -> None:
    data = head if length is None else head[:length].ljust(length, fill)
    try:
        DECODERS[name](data)
    except RemoteError as error:
        assert error.reason in Reason  # noqa: PT017 - opening may succeed as well: a message, a hello B


def test_what_was_fuzzed_still_works() -> None:
    assert PAIR.r.open(PAIR.i.seal(Ping(1), NOW_NS)[0]) == Ping(1)
    assert INITIATOR.wants_reply_a
