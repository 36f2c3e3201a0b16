# SPDX-License-Identifier: Apache-2.0
"""Biscuits: the responder's state, sealed to itself and kept by the initiator (docs/protocol.md, section 6).

A biscuit key lives BISCUIT_ROTATE seconds as the current one and as long as the previous one. The confirms that it has
accepted are remembered with it and forgotten with it: a confirm can't be replayed after its mark is gone, because the
key is gone too. A full memory therefore rotates the key early; it never drops a single mark.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from veilnet.protocol.crypto import HASH_LEN, KEY_LEN, NONCE_LEN, Provider, Rng, h, wipe
from veilnet.protocol.errors import Reason, RemoteError
from veilnet.protocol.messages import NODE_ID_LEN
from veilnet.protocol.transcript import Mode

BISCUIT_ROTATE = 300.0  # seconds
BISCUIT_AGE_MINUTES = 10
BISCUIT_USED_MAX = 65536  # confirms accepted under one key, 32 bytes each

_ZERO_NONCE = bytes(NONCE_LEN)


@dataclass(slots=True)
class BiscuitKey:
    """One generation of kb and the X_R of the confirms accepted under it."""

    key: bytearray
    made: float
    used: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class BiscuitA:
    """What reply A hands to the initiator for safe keeping; `origin` is bound as associated data."""

    ck: bytes
    peer_id: bytes
    mode: Mode


class BiscuitJar:
    """Seals and opens biscuits; keeps the current and the previous key. `now` in unix seconds."""

    def __init__(self, provider: Provider, rng: Rng) -> None:
        self._provider = provider
        self._rng = rng
        self._keys: list[BiscuitKey] = []

    @staticmethod
    def _is_current(key: BiscuitKey, now: float) -> bool:
        return 0 <= now - key.made < BISCUIT_ROTATE and len(key.used) < BISCUIT_USED_MAX

    def _rotate(self, now: float) -> list[BiscuitKey]:
        """Newest first. A key whose time is over is gone before anything is opened with it."""
        if self._keys and self._is_current(self._keys[0], now) and now - self._keys[-1].made < 2 * BISCUIT_ROTATE:
            return self._keys
        keep = [k for k in self._keys if 0 <= now - k.made < 2 * BISCUIT_ROTATE]
        if not keep or not self._is_current(keep[0], now):
            keep.insert(0, BiscuitKey(bytearray(self._rng(KEY_LEN)), now))
        keep = keep[:2]
        for old in self._keys:
            if all(old is not k for k in keep):
                wipe(old.key)
        self._keys = keep
        return keep

    def expire(self, now: float) -> None:
        """Drop keys whose time is over; also done by every other call."""
        self._rotate(now)

    def seal_a(self, x_r: bytes, biscuit: BiscuitA, origin: bytes, now: float) -> bytes:
        minute = (int(now) // 60 & 0xFFFF).to_bytes(2, "little")
        plain = biscuit.ck + biscuit.peer_id + bytes([biscuit.mode]) + minute
        key = h(self._rotate(now)[0].key, b"biscuit a", x_r)
        return self._provider.aead_seal(key, _ZERO_NONCE, origin, plain)  # RA5

    def seal_b(self, digest: bytes, origin: bytes, now: float) -> bytes:
        nonce = self._rng(NONCE_LEN)
        key = h(self._rotate(now)[0].key, b"biscuit b")
        return nonce + self._provider.aead_seal(key, nonce, origin, digest)  # RB2

    def open_a(self, x_r: bytes, sealed: bytes, origin: bytes, now: float) -> tuple[BiscuitA, BiscuitKey]:
        """RemoteError(STALE): another origin, a key that is gone, or too old."""
        for generation in self._rotate(now):
            try:
                plain = self._provider.aead_open(h(generation.key, b"biscuit a", x_r), _ZERO_NONCE, origin, sealed)
            except RemoteError:
                continue
            if int(now) // 60 - int.from_bytes(plain[-2:], "little") & 0xFFFF > BISCUIT_AGE_MINUTES:
                break
            at = HASH_LEN + NODE_ID_LEN
            return BiscuitA(plain[:HASH_LEN], plain[HASH_LEN:at], Mode(plain[at])), generation
        raise RemoteError(Reason.STALE, "biscuit a")

    def open_b(self, sealed: bytes, origin: bytes, now: float) -> bytes:
        """m_e. RemoteError(STALE) as `open_a`."""
        nonce = sealed[:NONCE_LEN]
        for generation in self._rotate(now):
            try:
                return self._provider.aead_open(h(generation.key, b"biscuit b"), nonce, origin, sealed[NONCE_LEN:])
            except RemoteError:
                continue
        raise RemoteError(Reason.STALE, "biscuit b")
