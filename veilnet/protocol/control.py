# SPDX-License-Identifier: Apache-2.0
"""Control channel of a session (docs/protocol.md, section 7): messages split, sealed, checked for replay, joined.

Every body is HS_BODY_LEN (1216) bytes. Keys belong to epochs; `Session` sets them.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field

from veilnet.contract import AEAD_TAG_LEN, HS_BODY_LEN, LANE_CONTROL, SHDR_LEN
from veilnet.protocol.crypto import KEY_LEN, NONCE_LEN, Provider, Rng, require
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import mask_stream_header, pack_stream_header
from veilnet.protocol.transcript import Mode

_PART = struct.Struct("<QIBBH")  # sequence, message id, part, parts, length
PART_DATA = HS_BODY_LEN - AEAD_TAG_LEN - SHDR_LEN - NONCE_LEN - _PART.size  # 1164: what the longest header leaves
PARTS_MAX = 4
SEQUENCE_MAX = (1 << 64) - 1
_STREAM_HEADER = pack_stream_header(0, 0, LANE_CONTROL, 0)


@dataclass(slots=True)
class _Partial:
    """The one message that is being joined. Sequences only grow, so its parts can only come in order."""

    message_id: int
    parts: int
    data: list[bytes] = field(default_factory=list)


class ControlChannel:
    """Both directions. `tx_hp`, `rx_hp` (16 bytes) exactly in mode stream, where the body carries a stream header.

    `last_tx`, `last_rx`: highest sequence sent and taken; they are part of the session's saved state.
    """

    def __init__(
        self, provider: Provider, rng: Rng, mode: Mode, tx_hp: bytes | None = None, rx_hp: bytes | None = None
    ) -> None:
        if (mode is Mode.STREAM) != (tx_hp is not None) or (tx_hp is None) != (rx_hp is None):
            raise LocalError("hp keys exactly in mode stream")
        self._provider = provider
        self._rng = rng
        self._aad = bytes([mode])
        self._tx_hp = tx_hp
        self._rx_hp = rx_hp
        self._head = SHDR_LEN if tx_hp else 0
        self.tx_key = b""
        self.rx_keys: dict[int, bytes] = {}
        """epoch → key; tried in order."""
        self.last_tx = 0
        self.last_rx = 0
        self._partial: _Partial | None = None

    def seal(self, message: bytes, now_ns: int) -> list[bytes]:
        """Bodies to send, in order. `now_ns`: unix nanoseconds. LocalError if the message is too long.

        Each call gives fresh bytes under fresh sequences, so a repeat is a new call.
        """
        require(self.tx_key, KEY_LEN, "control key")
        if not 0 < len(message) <= PARTS_MAX * PART_DATA:
            raise LocalError("control message length")
        chunks = [message[at : at + PART_DATA] for at in range(0, len(message), PART_DATA)]
        first = max(self.last_tx + 1, now_ns)
        bodies = []
        for part, chunk in enumerate(chunks):
            # the id is the first sequence's low half, so that a restart can't give it to another message
            head = _PART.pack(first + part, first & 0xFFFFFFFF, part, len(chunks), len(chunk))  # CT1
            bodies.append(self._seal_part(head + chunk))
        self.last_tx = first + len(chunks) - 1  # CT3
        return bodies

    def _seal_part(self, part: bytes) -> bytes:
        nonce = self._rng(NONCE_LEN)
        plain = part.ljust(HS_BODY_LEN - AEAD_TAG_LEN - self._head - NONCE_LEN, b"\0")
        sealed = self._provider.aead_seal(self.tx_key, nonce, self._aad, plain)  # CT2
        tag = sealed[-AEAD_TAG_LEN:]
        header = mask_stream_header(self._tx_hp, tag, _STREAM_HEADER) if self._tx_hp else b""
        return tag + header + nonce + sealed[:-AEAD_TAG_LEN]

    def open(self, body: bytes) -> tuple[int, bytes | None]:
        """(epoch of the key that verified, message or None while parts are missing).

        RemoteError: LENGTH, FIELD, AUTH, REPLAY, PADDING.
        """
        if len(body) != HS_BODY_LEN:
            raise RemoteError(Reason.LENGTH, "control body")
        epoch, plain = self._open_part(body)
        sequence, message_id, part, parts, length = _PART.unpack_from(plain)
        if sequence <= self.last_rx:  # CT3
            raise RemoteError(Reason.REPLAY, "control sequence")
        whole = length == PART_DATA or (part == parts - 1 and 0 < length < PART_DATA)
        if not (part < parts <= PARTS_MAX and whole):
            raise RemoteError(Reason.FIELD, "control part")
        end = _PART.size + length
        if plain.count(0, end) != len(plain) - end:
            raise RemoteError(Reason.PADDING, "control part")
        self.last_rx = sequence
        return epoch, self._join(message_id, part, parts, plain[_PART.size : end])

    def _open_part(self, body: bytes) -> tuple[int, bytes]:
        tag, nonce_at = body[:AEAD_TAG_LEN], AEAD_TAG_LEN + self._head
        if self._rx_hp:
            header = mask_stream_header(self._rx_hp, tag, body[AEAD_TAG_LEN:nonce_at])
            if not hmac.compare_digest(header, _STREAM_HEADER):
                raise RemoteError(Reason.FIELD, "control stream header")
        nonce, sealed = body[nonce_at : nonce_at + NONCE_LEN], body[nonce_at + NONCE_LEN :] + tag
        for epoch, key in self.rx_keys.items():
            try:
                return epoch, self._provider.aead_open(key, nonce, self._aad, sealed)  # CT2
            except RemoteError:
                continue
        raise RemoteError(Reason.AUTH, "control body")

    def _join(self, message_id: int, part: int, parts: int, data: bytes) -> bytes | None:
        if part == 0:
            self._partial = _Partial(message_id, parts)
        partial = self._partial
        if partial is None or (partial.message_id, partial.parts, len(partial.data)) != (message_id, parts, part):
            self._partial = None  # a part was lost; the message will be repeated
            return None
        partial.data.append(data)
        if part + 1 < parts:
            return None
        self._partial = None
        return b"".join(partial.data)
