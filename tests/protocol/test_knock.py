# SPDX-License-Identifier: Apache-2.0
"""Knock keys over time, handshake datagrams."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import NOW, mangled, reproducible
from veilnet.contract import HS_BODY_LEN, HS_LEN
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.knock import PAYLOAD_LEN, KnockSchedule, open_body, open_knock, seal_body, seal_knock

SEED = bytes(range(32))
SCHEDULE = KnockSchedule(SEED)
SLOT = SCHEDULE.slot_of(NOW)
PAYLOAD = b"\5" + bytes(range(191))


def test_keys_are_those_of_the_specification() -> None:
    epoch = (SLOT * 180 // 86400).to_bytes(8, "little")
    kappa = hmac.digest(SEED, b"knock epoch\0" + epoch, "sha256")
    for direction, keys in ((b"knock", SCHEDULE.knock_keys(SLOT)), (b"reply", SCHEDULE.reply_keys(SLOT))):
        for name in ("mac", "enc", "full", "obf"):
            text = direction + b" " + name.encode() + b"\0" + SLOT.to_bytes(8, "little")
            expected = hmac.digest(kappa, text, "sha256")[: 32 if name == "obf" else 16]
            assert getattr(keys, name) == expected


@pytest.mark.parametrize(
    ("into", "slots"), [(0, (10, 9)), (89, (10, 9)), (90, (10, 11)), (179.9, (10, 11)), (180, (11, 10))]
)
def test_nearest_neighbour(into: float, slots: tuple[int, int]) -> None:
    assert SCHEDULE.slots_at(1800 + into) == slots


@given(now=st.integers(10**9, 3 * 10**9), skew=st.integers(-90, 90))
def test_clocks_may_differ_by_90_seconds(now: int, skew: int) -> None:
    assert SCHEDULE.slot_of(now + skew) in SCHEDULE.slots_at(now) or abs(skew) == 90


def test_slots_and_directions_have_keys_of_their_own() -> None:
    keys = [get(slot) for get in (SCHEDULE.knock_keys, SCHEDULE.reply_keys) for slot in range(478, 482)]
    parts = [part for key in keys for part in (key.mac, key.enc, key.full, key.obf[:16])]
    assert len(set(parts)) == len(parts)


def test_knock_round_trip() -> None:
    rng = reproducible("knock")
    keys = SCHEDULE.knock_keys(SLOT)
    first, second = seal_knock(keys, PAYLOAD, rng), seal_knock(keys, PAYLOAD, rng)
    assert len(first) == HS_LEN
    assert first != second
    for datagram in (first, second):
        assert open_knock(keys, datagram) == PAYLOAD.ljust(PAYLOAD_LEN, b"\0")


def test_mangled_knocks_do_not_open() -> None:
    keys = SCHEDULE.knock_keys(SLOT)
    for bad in mangled(seal_knock(keys, PAYLOAD, reproducible("knock"))):
        with pytest.raises(RemoteError) as error:
            open_knock(keys, bad)
        assert error.value.reason in (Reason.LENGTH, Reason.TAG)


def test_other_slot_direction_or_seed_does_not_open() -> None:
    datagram = seal_knock(SCHEDULE.knock_keys(SLOT), PAYLOAD, reproducible("knock"))
    other = KnockSchedule(bytes(32))
    for keys in (SCHEDULE.knock_keys(SLOT + 1), SCHEDULE.reply_keys(SLOT), other.knock_keys(SLOT)):
        with pytest.raises(RemoteError, match="tag"):
            open_knock(keys, datagram)


def test_body_for_circuits() -> None:
    keys = SCHEDULE.knock_keys(SLOT)
    body = seal_body(keys, PAYLOAD, reproducible("body"))
    assert len(body) == HS_BODY_LEN
    assert open_body(keys, body) == PAYLOAD.ljust(PAYLOAD_LEN, b"\0")
    assert open_body(SCHEDULE.knock_keys(SLOT + 1), body) != open_body(keys, body)
    for length in (0, HS_BODY_LEN - 1, HS_BODY_LEN + 1):
        with pytest.raises(RemoteError, match="length"):
            open_body(keys, bytes(length))


def test_arguments() -> None:
    keys = SCHEDULE.knock_keys(SLOT)
    for payload in (b"", bytes(PAYLOAD_LEN + 1)):
        with pytest.raises(LocalError):
            seal_body(keys, payload, reproducible("body"))
    with pytest.raises(LocalError):
        KnockSchedule(bytes(31))
