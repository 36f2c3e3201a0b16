# SPDX-License-Identifier: Apache-2.0
"""Frames and stream bodies (docs/protocol.md, sections 3 and 4): the reference that the BPF programs are compared with.

A frame is the UDP payload `tag 8 | header 8 | body`. Sizes come from `bpf/contract.h` by way of `veilnet.contract`.
Lengths are in bytes. What does not verify raises RemoteError and has changed nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from siphash24 import siphash24

from veilnet.contract import (
    AEAD_TAG_LEN,
    BIND_LEN,
    COUNTER_LIMIT,
    FRAME_LEN,
    FRAME_MIN,
    HDR_LEN,
    INNER_MAX,
    LANE_CONTROL,
    SHDR_LEN,
    SHDR_SLOT,
    STREAM_LEN,
    TAG_LEN,
)
from veilnet.protocol.crypto import require
from veilnet.protocol.errors import LocalError, Reason, RemoteError

LABEL_BITS = 24
BUDGET_BITS = 8
COUNTER_BITS = 32
LABEL_MAX = (1 << LABEL_BITS) - 1
SIP_KEY_LEN = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """An authenticated frame. `body` is at least 16 bytes; only its first BIND_LEN are covered by the tag."""

    label: int
    budget: int
    counter: int
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamHeader:
    counter: int
    pad: int
    lane: int
    slot: int


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """An authenticated stream body. `inner` is what follows the padding."""

    counter: int
    pad: int
    lane: int
    slot: int
    inner: bytes


def sip(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 with 64-bit output, as the 8 little-endian bytes that stand on the wire."""
    return siphash24(data, key=key).digest()  # type: ignore[no-any-return]


def xor8(a: bytes, b: bytes) -> bytes:
    """Bitwise xor of two 8-byte strings."""
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(8, "little")


def pack_header(label: int, budget: int, counter: int) -> bytes:
    """8 bytes, least significant bit first: label 24, hop budget 8, counter 32."""
    if not (0 <= label <= LABEL_MAX and 0 <= budget < 1 << BUDGET_BITS and 0 <= counter < 1 << COUNTER_BITS):
        raise LocalError("label, hop budget or counter out of range")
    return (label | budget << LABEL_BITS | counter << (LABEL_BITS + BUDGET_BITS)).to_bytes(HDR_LEN, "little")


def seal_header(mac: bytes, enc: bytes, header: bytes, body: bytes) -> bytes:
    """`tag ‖ masked header`, FRAME_LEN bytes, for a header of 8 bytes and a body of BIND_LEN bytes or more."""
    tag = sip(mac, header + body[:BIND_LEN])  # FR1
    return tag + xor8(header, sip(enc, tag))  # FR2


def open_header(mac: bytes, enc: bytes, payload: bytes) -> bytes:
    """The 8 header bytes of a UDP payload whose tag verifies. RemoteError: LENGTH, TAG."""
    if len(payload) < FRAME_MIN:
        raise RemoteError(Reason.LENGTH, "frame")
    tag = payload[:TAG_LEN]
    header = xor8(payload[TAG_LEN:FRAME_LEN], sip(enc, tag))  # FR2
    if not hmac.compare_digest(tag, sip(mac, header + payload[FRAME_LEN : FRAME_LEN + BIND_LEN])):  # FR1
        raise RemoteError(Reason.TAG, "frame")
    return header


def seal_frame(  # noqa: PLR0917 - the order of the wire
    mac: bytes, enc: bytes, label: int, budget: int, counter: int, body: bytes
) -> bytes:
    """UDP payload of a frame. `mac`, `enc`: 16 bytes each; `body`: at least 16."""
    require(mac, SIP_KEY_LEN, "mac key")
    require(enc, SIP_KEY_LEN, "enc key")
    if len(body) < FRAME_MIN - FRAME_LEN:
        raise LocalError("frame body is too short")
    return seal_header(mac, enc, pack_header(label, budget, counter), body) + body


def open_frame(mac: bytes, enc: bytes, payload: bytes) -> Frame:
    """Check and unmask a UDP payload. The caller has to pass `counter` to a ReplayWindow. RemoteError: LENGTH, TAG."""
    header = int.from_bytes(open_header(mac, enc, payload), "little")
    budget = header >> LABEL_BITS & ((1 << BUDGET_BITS) - 1)
    return Frame(header & LABEL_MAX, budget, header >> (LABEL_BITS + BUDGET_BITS), payload[FRAME_LEN:])


@lru_cache(maxsize=256)
def _aead(key: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(key)


def pack_stream_header(counter: int, pad: int, lane: int, slot: int) -> bytes:
    """8 bytes, least significant bit first: counter 32, pad 16, lane 8, flags 8."""
    if not (0 <= counter < 1 << COUNTER_BITS and 0 <= pad < 1 << 16 and 0 <= lane < 1 << 8 and slot in (0, 1)):
        raise LocalError("stream counter, padding, lane or slot out of range")
    return (counter | pad << 32 | lane << 48 | slot * SHDR_SLOT << 56).to_bytes(SHDR_LEN, "little")


def mask_stream_header(hp: bytes, tag: bytes, header: bytes) -> bytes:
    """Mask or unmask 8 header bytes under `hp` (16 bytes) and the body's AEAD tag (16 bytes)."""
    return xor8(header, sip(hp, tag))  # ST3


def open_stream_header(hp: bytes, body: bytes) -> StreamHeader:
    """Unmask the stream header of a body; nothing in it is authentic yet. RemoteError: LENGTH, FIELD."""
    if len(body) < STREAM_LEN:
        raise RemoteError(Reason.LENGTH, "stream body")
    bits = int.from_bytes(mask_stream_header(hp, body[:AEAD_TAG_LEN], body[AEAD_TAG_LEN:STREAM_LEN]), "little")
    flags = bits >> 56
    if flags & ~SHDR_SLOT:
        raise RemoteError(Reason.FIELD, "stream header flags")
    return StreamHeader(bits & 0xFFFFFFFF, bits >> 32 & 0xFFFF, bits >> 48 & 0xFF, flags & SHDR_SLOT)


def seal_stream(  # noqa: PLR0917 - the order of the wire
    key: bytes, hp: bytes, counter: int, lane: int, slot: int, inner: bytes, pad: int = 0
) -> bytes:
    """Body of one stream frame. `key` 32 bytes (direction, lane, slot), `hp` 16 bytes, `inner` an IP packet.

    A counter must never be used twice with one key: it is the nonce.
    """
    require(hp, SIP_KEY_LEN, "hp key")
    if not 0 <= counter < COUNTER_LIMIT or not 0 <= lane < LANE_CONTROL:
        raise LocalError("stream counter or lane out of range")
    if pad < 0 or pad + len(inner) > INNER_MAX:
        raise LocalError("inner packet and padding are too long")
    header = pack_stream_header(counter, pad, lane, slot)
    nonce = bytes(4) + counter.to_bytes(8, "little")  # ST1
    sealed = _aead(bytes(key)).encrypt(nonce, bytes(pad) + inner, header)  # ST2
    tag = sealed[-AEAD_TAG_LEN:]
    return tag + mask_stream_header(hp, tag, header) + sealed[:-AEAD_TAG_LEN]  # ST3


def open_stream(key_by_slot: Mapping[int, bytes], hp: bytes, body: bytes) -> StreamFrame:
    """Open a body of one lane under that lane's receive keys. The caller passes `counter` to a ReplayWindow.

    RemoteError: LENGTH, FIELD, SLOT (no such key, or the control lane), AUTH.
    """
    header = open_stream_header(hp, body)
    plain_len = len(body) - STREAM_LEN
    if plain_len > INNER_MAX or header.pad > plain_len:
        raise RemoteError(Reason.LENGTH, "stream body")
    key = key_by_slot.get(header.slot)
    if key is None or header.lane == LANE_CONTROL:
        raise RemoteError(Reason.SLOT, "stream")
    nonce = bytes(4) + header.counter.to_bytes(8, "little")  # ST1
    aad = pack_stream_header(header.counter, header.pad, header.lane, header.slot)
    try:
        plain = _aead(bytes(key)).decrypt(nonce, body[STREAM_LEN:] + body[:AEAD_TAG_LEN], aad)  # ST2
    except InvalidTag:
        raise RemoteError(Reason.AUTH, "stream body") from None
    return StreamFrame(header.counter, header.pad, header.lane, header.slot, plain[header.pad :])


class ReplayWindow:
    """Same rule as `bpf/replay.h`: word = `block << 32 | bits`, 32 counters a word, the block of a word only grows."""

    def __init__(self, words: int) -> None:
        if words < 2 or words & (words - 1):
            raise LocalError("window words must be a power of two")
        self.words = [0] * words

    def _next(self, counter: int) -> int:
        word = self.words[counter >> 5 & (len(self.words) - 1)]
        block, bit = counter >> 5, 1 << (counter & 31)
        if word >> 32 == block:
            return 0 if word & bit else word | bit
        return block << 32 | bit if word >> 32 < block else 0

    def check(self, counter: int) -> bool:
        """Would `accept` take it now?"""
        return self._next(counter) != 0

    def accept(self, counter: int) -> bool:
        """Take `counter` (0 to 2^32 - 1) once; False if seen before or too old. Call after authentication."""
        word = self._next(counter)
        if word:
            self.words[counter >> 5 & (len(self.words) - 1)] = word
        return word != 0

    @property
    def used(self) -> bool:
        return any(self.words)
