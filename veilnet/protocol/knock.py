# SPDX-License-Identifier: Apache-2.0
"""Handshake datagrams (docs/protocol.md, section 5): knock keys, and 1232 bytes that look random.

`payload` is `kind 1 | fields`. Sealing pads it with zeros to PAYLOAD_LEN (1204) bytes, opening returns all of them;
`transcript.parse_kind` checks the padding. Times are unix seconds.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache

from veilnet.contract import FRAME_LEN, HS_BODY_LEN, HS_LEN
from veilnet.protocol.crypto import KEY_LEN, NONCE_LEN, CryptographyProvider, Rng, h, require
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import LABEL_BITS, LABEL_MAX, SIP_KEY_LEN, open_header, seal_header, sip

SEED_LEN = 32
PAYLOAD_LEN = HS_BODY_LEN - NONCE_LEN  # 1204
EPOCH_SECONDS = 86400
SLOT_SECONDS = 180  # divides EPOCH_SECONDS, so no slot stands in two epochs
DIGEST_BITS = 40

_chacha20 = CryptographyProvider().chacha20


@dataclass(frozen=True, slots=True)
class KnockKeys:
    """Keys of one slot and direction. `mac`, `enc`, `full` 16 bytes each go to BPF; `obf` 32 bytes stays in keyd."""

    slot: int
    mac: bytes
    enc: bytes
    full: bytes
    obf: bytes


def _direction_keys(kappa: bytes, direction: bytes, slot: int) -> KnockKeys:
    time = slot.to_bytes(8, "little")
    mac, enc, full = (h(kappa, direction + b" " + name, time)[:SIP_KEY_LEN] for name in (b"mac", b"enc", b"full"))
    return KnockKeys(slot, mac, enc, full, h(kappa, direction + b" obf", time))


@lru_cache(maxsize=4096)
def _keys(seed: bytes, direction: bytes, slot: int) -> KnockKeys:
    epoch = slot * SLOT_SECONDS // EPOCH_SECONDS
    kappa = h(seed, b"knock epoch", epoch.to_bytes(8, "little"))  # KN1
    return _direction_keys(kappa, direction, slot)  # KN2


class KnockSchedule:
    """Knock keys over time of the node whose descriptor holds `seed` (32 bytes)."""

    def __init__(self, seed: bytes) -> None:
        require(seed, SEED_LEN, "knock seed")
        self._seed = seed

    @staticmethod
    def slot_of(now: float) -> int:
        """Slot that contains unix time `now`."""
        return int(now) // SLOT_SECONDS  # KN1

    @staticmethod
    def slots_at(now: float) -> tuple[int, int]:
        """(slot that contains `now`, its nearest neighbour): the two that a receiver holds the keys of."""
        slot, into = divmod(int(now), SLOT_SECONDS)  # KN4
        return slot, slot + 1 if into * 2 >= SLOT_SECONDS else slot - 1

    def knock_keys(self, slot: int) -> KnockKeys:
        """Keys of datagrams to the node."""
        return _keys(self._seed, b"knock", slot)

    def reply_keys(self, slot: int) -> KnockKeys:
        """Keys of its answers."""
        return _keys(self._seed, b"reply", slot)


def circuit_schedule(realm: bytes) -> KnockSchedule:
    """Keys of handshakes through circuits, one set for the whole realm (id of 16 bytes).

    A relay is a member and holds every node's knock seed: keys of the target would tell it who that is.
    """
    return KnockSchedule(h(realm, b"circuit"))  # KN5


def seal_body(keys: KnockKeys, payload: bytes, rng: Rng) -> bytes:
    """`nonce 12 | ChaCha20(obf, payload, zero padded)`, 1216 bytes: what travels through a circuit.

    Fresh bytes on every call, so repeats of one payload can't be recognised.
    """
    if not 0 < len(payload) <= PAYLOAD_LEN:
        raise LocalError("handshake payload length")
    nonce = rng(NONCE_LEN)
    return nonce + _chacha20(keys.obf, nonce, payload.ljust(PAYLOAD_LEN, b"\0"))  # KN5


def open_body(keys: KnockKeys, body: bytes) -> bytes:
    """Payload, PAYLOAD_LEN bytes, not authenticated: under the wrong slot's keys it is noise. RemoteError: LENGTH.

    Through a circuit a receiver tries the keys of both slots (KN5) and takes the one that `handshake.parse_kind`
    accepts; an initiator tries reply keys of the slots that it has sent under.
    """
    require(keys.obf, KEY_LEN, "obf key")
    if len(body) != HS_BODY_LEN:
        raise RemoteError(Reason.LENGTH, "handshake body")
    return _chacha20(keys.obf, body[:NONCE_LEN], body[NONCE_LEN:])  # KN5


def _header(full: bytes, body: bytes) -> bytes:
    """Label 0, above it the low 40 bits of the digest of the whole body."""
    digest = int.from_bytes(sip(full, body), "little") & ((1 << DIGEST_BITS) - 1)
    return (digest << LABEL_BITS).to_bytes(8, "little")


def seal_knock(keys: KnockKeys, payload: bytes, rng: Rng) -> bytes:
    """UDP payload, 1232 bytes, of a handshake datagram on a direct link."""
    body = seal_body(keys, payload, rng)
    return seal_header(keys.mac, keys.enc, _header(keys.full, body), body) + body  # KN3


def open_knock(keys: KnockKeys, datagram: bytes) -> bytes:
    """Payload, PAYLOAD_LEN bytes, of a UDP payload sealed under `keys`. The data plane has checked the tag already and
    remembers it (KN4); this is the same check in Python. RemoteError: LENGTH, TAG."""
    if len(datagram) != HS_LEN:
        raise RemoteError(Reason.LENGTH, "handshake datagram")
    header, body = open_header(keys.mac, keys.enc, datagram), datagram[FRAME_LEN:]
    if int.from_bytes(header, "little") & LABEL_MAX or not hmac.compare_digest(header, _header(keys.full, body)):
        raise RemoteError(Reason.TAG, "handshake body digest")  # KN3
    return open_body(keys, body)
