# SPDX-License-Identifier: Apache-2.0
"""Control message codec."""

from __future__ import annotations

import pytest

from tests.protocol.pair import mangled
from veilnet.protocol import messages as m
from veilnet.protocol.errors import LocalError, Reason, RemoteError

EXAMPLES: list[tuple[m.Message, str]] = [
    (m.Ready(1), "0101000000"),
    (m.Ping(2), "0202000000"),
    (m.Pong(0xFFFFFFFF), "03ffffffff"),
    (m.Rekey(3, b"x" * 32, b"e" * 1184), "0403000000" + "78" * 32 + "65" * 1184),
    (m.Rekeyed(4, b"y" * 32, b"c" * 1088, b"k" * 16), "0504000000" + "79" * 32 + "63" * 1088 + "6b" * 16),
    (m.Create(5, 6), "060500000006000000"),
    (m.Created(7, 2**24 - 1), "0707000000ffffff00"),
    (m.Extend(8, 0, b"n" * 16), "080800000000000000" + "6e" * 16),
    (m.Extended(9), "0909000000"),
    (m.Destroy(10), "0a0a000000"),
    (m.Close(), "0b"),
    (m.Refused(11, m.Refusal.FULL), "0c0b00000003"),
]


def test_every_message_has_an_example() -> None:
    named = {kind.__name__ for kind in m.Message.__subclasses__()}
    assert {type(example).__name__ for example, _ in EXAMPLES} == named
    assert max(len(wire) // 2 for _, wire in EXAMPLES) == m.MESSAGE_MAX


@pytest.mark.parametrize(("message", "wire"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_both_directions(message: m.Message, wire: str) -> None:
    assert m.encode_message(message).hex() == wire
    assert m.decode_message(bytes.fromhex(wire)) == message


@pytest.mark.parametrize(("message", "wire"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_mangled_messages_decode_to_something_else_or_not_at_all(message: m.Message, wire: str) -> None:
    data, reasons = bytes.fromhex(wire), set[Reason]()
    for bad in mangled(data):
        try:
            decoded = m.decode_message(bad)
        except RemoteError as error:
            reasons.add(error.reason)
        else:
            assert m.encode_message(decoded) == bad
            assert decoded != message
    assert reasons <= {Reason.KIND, Reason.LENGTH, Reason.FIELD}


@pytest.mark.parametrize("kind", [0, 13, 255])
def test_unknown_type(kind: int) -> None:
    with pytest.raises(RemoteError, match="kind"):
        m.decode_message(bytes([kind]) + bytes(4))


@pytest.mark.parametrize(
    "message",
    [
        m.Ping(2**32),
        m.Ping(-1),
        m.Create(1, 0),
        m.Create(1, 2**24),
        m.Destroy(0),
        m.Extend(1, 2**24, bytes(16)),
        m.Extend(1, 0, bytes(15)),
        m.Rekey(1, bytes(33), bytes(1184)),
        m.Refused(1, 256),
    ],
)
def test_fields_that_do_not_fit_are_ours(message: m.Message) -> None:
    with pytest.raises(LocalError):
        m.encode_message(message)


@pytest.mark.parametrize("wire", ["0605000000" + "00000000", "0605000000" + "00000001", "0a00000000"])
def test_labels_out_of_range_are_the_peers(wire: str) -> None:
    with pytest.raises(RemoteError, match="field"):
        m.decode_message(bytes.fromhex(wire))
