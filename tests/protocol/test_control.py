# SPDX-License-Identifier: Apache-2.0
"""Control channel: parts, order, replay, mangled bodies."""

from __future__ import annotations

import pytest

from tests.protocol.pair import NOW_NS, PROVIDER, mangled, reproducible
from veilnet.contract import HS_BODY_LEN
from veilnet.protocol.control import PART_DATA, PARTS_MAX, ControlChannel
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import open_stream_header
from veilnet.protocol.messages import MESSAGE_MAX
from veilnet.protocol.transcript import Mode

I2R, R2I, HP_I2R, HP_R2I = (bytes([n]) * length for n, length in ((1, 32), (2, 32), (3, 16), (4, 16)))


def channels(mode: Mode) -> tuple[ControlChannel, ControlChannel]:
    rng = reproducible("control")
    stream = mode is Mode.STREAM
    i = ControlChannel(PROVIDER, rng, mode, *((HP_I2R, HP_R2I) if stream else ()))
    r = ControlChannel(PROVIDER, rng, mode, *((HP_R2I, HP_I2R) if stream else ()))
    i.tx_key, r.tx_key = I2R, R2I
    i.rx_keys, r.rx_keys = {0: R2I}, {0: I2R}
    return i, r


def feed(channel: ControlChannel, bodies: list[bytes]) -> list[bytes | None]:
    return [channel.open(body)[1] for body in bodies]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("length", [1, PART_DATA - 1, PART_DATA, PART_DATA + 1, MESSAGE_MAX, PARTS_MAX * PART_DATA])
def test_round_trip_of_any_length(mode: Mode, length: int) -> None:
    i, r = channels(mode)
    message = bytes(n % 255 + 1 for n in range(length))
    bodies = i.seal(message, NOW_NS)
    assert len(bodies) == -(-length // PART_DATA)
    assert {len(body) for body in bodies} == {HS_BODY_LEN}
    assert feed(r, bodies) == [None] * (len(bodies) - 1) + [message]


def test_part_length_is_what_the_longest_header_leaves() -> None:
    assert PART_DATA == 1216 - 16 - 8 - 12 - (8 + 4 + 1 + 1 + 2)


@pytest.mark.parametrize("length", [0, PARTS_MAX * PART_DATA + 1])
def test_lengths_that_do_not_fit_are_ours(length: int) -> None:
    with pytest.raises(LocalError):
        channels(Mode.LINK)[0].seal(bytes(length), NOW_NS)


def test_stream_control_shows_its_lane_to_the_data_plane() -> None:
    i, _ = channels(Mode.STREAM)
    header = open_stream_header(HP_I2R, i.seal(b"m", NOW_NS)[0])
    assert (header.counter, header.pad, header.lane, header.slot) == (0, 0, 255, 0)


def test_sequences_never_go_back() -> None:
    i, r = channels(Mode.LINK)
    for now in (NOW_NS, NOW_NS, NOW_NS - 10**9, 0, NOW_NS + 5):
        before = i.last_tx
        assert feed(r, i.seal(b"m", now)) == [b"m"]
        assert i.last_tx == max(before + 1, now)


def test_replay_and_reorder() -> None:
    i, r = channels(Mode.LINK)
    first, second = i.seal(b"first", NOW_NS)[0], i.seal(b"second", NOW_NS)[0]
    assert feed(r, [second]) == [b"second"]
    for body in (first, second):
        with pytest.raises(RemoteError, match="replay"):
            r.open(body)


@pytest.mark.parametrize("mode", list(Mode))
def test_reflection(mode: Mode) -> None:
    i, _ = channels(mode)
    with pytest.raises(RemoteError):
        i.open(i.seal(b"m", NOW_NS)[0])


def test_modes_do_not_mix() -> None:
    (i, _), (_, r) = channels(Mode.LINK), channels(Mode.HOP)
    with pytest.raises(RemoteError, match="auth"):
        r.open(i.seal(b"m", NOW_NS)[0])


def test_lost_part_loses_the_message_only() -> None:
    i, r = channels(Mode.LINK)
    long, other = bytes(range(1, 255)) * 10, bytes(range(1, 200)) * 10
    first, second, third = i.seal(long, NOW_NS)
    assert feed(r, [first, third]) == [None, None]
    assert feed(r, i.seal(long, NOW_NS)[:1] + i.seal(other, NOW_NS)[1:]) == [None, None]
    first_of_two = i.seal(other, NOW_NS)[0]
    assert feed(r, [first_of_two]) == [None]
    assert feed(r, i.seal(b"short", NOW_NS)) == [b"short"]
    assert feed(r, i.seal(long, NOW_NS)) == [None, None, long]
    with pytest.raises(RemoteError, match="replay"):
        feed(r, [second, first_of_two])


def test_a_new_sender_does_not_continue_an_old_message() -> None:
    """After a restart the sender's parts can't be joined to those from before."""
    i, r = channels(Mode.LINK)
    long = bytes(range(1, 255)) * 8
    assert feed(r, i.seal(long, NOW_NS)[:1]) == [None]
    again, _ = channels(Mode.LINK)
    again.last_tx = i.last_tx
    assert feed(r, again.seal(long, NOW_NS)[1:]) == [None]


@pytest.mark.parametrize("mode", list(Mode))
def test_mangled_bodies(mode: Mode) -> None:
    i, r = channels(mode)
    body = i.seal(b"message", NOW_NS)[0]
    for bad in mangled(body):
        with pytest.raises(RemoteError) as error:
            r.open(bad)
        assert error.value.reason in (Reason.LENGTH, Reason.FIELD, Reason.AUTH)
    assert r.last_rx == 0
    assert feed(r, [body]) == [b"message"]


PARTS = [  # (part, parts, length, trailing byte) that an authentic but malicious peer may send
    (1, 1, 5, 0),
    (0, 0, 5, 0),
    (0, PARTS_MAX + 1, PART_DATA, 0),
    (0, 1, 0, 0),
    (0, 2, 5, 0),
    (0, 1, PART_DATA + 1, 0),
    (0, 1, 65535, 0),
    (0, 1, 5, 1),
]


@pytest.mark.parametrize(("part", "parts", "length", "trailing"), PARTS)
def test_malformed_parts_of_a_member_change_nothing(part: int, parts: int, length: int, trailing: int) -> None:
    i, r = channels(Mode.LINK)
    head = (NOW_NS).to_bytes(8, "little") + bytes(4) + bytes([part, parts]) + length.to_bytes(2, "little")
    body = i._seal_part(head + b"hello" + bytes(100) + bytes([trailing]))
    with pytest.raises(RemoteError) as error:
        r.open(body)
    assert error.value.reason in (Reason.FIELD, Reason.PADDING)
    assert r.last_rx == 0
    assert r._partial is None


def test_memory_is_bounded() -> None:
    """However many messages are begun, one is kept."""
    i, r = channels(Mode.LINK)
    for _ in range(50):
        assert feed(r, i.seal(bytes([1]) * PARTS_MAX * PART_DATA, NOW_NS)[:-1]) == [None] * (PARTS_MAX - 1)
    assert r._partial is not None
    assert sum(map(len, r._partial.data)) == (PARTS_MAX - 1) * PART_DATA


def test_hp_keys_exactly_in_mode_stream() -> None:
    rng = reproducible("hp")
    with pytest.raises(LocalError):
        ControlChannel(PROVIDER, rng, Mode.STREAM)
    with pytest.raises(LocalError):
        ControlChannel(PROVIDER, rng, Mode.LINK, HP_I2R, HP_R2I)
