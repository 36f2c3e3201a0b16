# SPDX-License-Identifier: Apache-2.0
"""Handshake (docs/protocol.md, section 6): hybrid IK with KEM authentication, responder without state until confirmed.

    I                                                R
    hello A   X_I, ct_R, c1(mode, id_I, time)   →
    hello B   ek_e                              →
              X_R, c2(ct_I), biscuit a          ←    reply A
              ct_e, biscuit b                   ←    reply B
    confirm   X_R, biscuits, c3(id_I)           →
              READY (control.py)                ←

Payloads are as in `knock.py`. Work is done on copies and committed last: a call that raises has changed nothing.
Secrets are immutable bytes in Python; `wipe` drops the references and overwrites what can be.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from veilnet.protocol.biscuit import BiscuitA, BiscuitJar
from veilnet.protocol.crypto import (
    KEM_CIPHERTEXT_LEN,
    KEM_PUBLIC_LEN,
    KEM_SEED_LEN,
    X25519_LEN,
    KemKey,
    Provider,
    Rng,
    require,
)
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.messages import NODE_ID_LEN
from veilnet.protocol.transcript import (
    ANONYMOUS,
    BISCUIT_A_LEN,
    BISCUIT_B_LEN,
    C1_LEN,
    C2_LEN,
    C3_LEN,
    HELLO_LEN,
    REALM_LEN,
    Identity,
    Kind,
    Mode,
    PeerKeys,
    Transcript,
    ephemeral_digest,
    parse_kind,
    split,
    start,
)

__all__ = [
    "Accepted",
    "Admit",
    "Answer",
    "Identity",
    "Initiator",
    "Kind",
    "Lookup",
    "Mode",
    "PeerKeys",
    "Repeated",
    "Responder",
    "parse_kind",
]

CLOCK_SKEW = 300  # seconds between the clocks of I and R
_NO_CIPHERTEXT = bytes(KEM_CIPHERTEXT_LEN)
_HELLO_RESERVED = bytes(HELLO_LEN - 1 - NODE_ID_LEN - 8)

Lookup = Callable[[bytes], PeerKeys | None]
"""node id → static keys from the signed directory; None: unknown or revoked."""
Admit = Callable[[Mode, bytes], bool]
"""Whether a known node may have a session of this mode with us."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Send `payload` back, once, to where the datagram came from."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The initiator has proven itself: make a Session of `secret` (32 bytes) and answer READY.

    `peer_id` is None in mode hop. `x_r` names the handshake: keep it with the session, for `Repeated`.
    """

    mode: Mode
    peer_id: bytes | None
    secret: bytes = field(repr=False)
    x_r: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """A genuine confirm again: send READY of the session that `x_r` made, if it still lives; never make another."""

    x_r: bytes


class Initiator:
    """One handshake with `peer`. `own` is None exactly in mode hop. `now` in unix seconds, `realm` 16 bytes.

    `hellos` and `confirm` give the same payload each time; repeat them, freshly sealed, until answered.
    """

    def __init__(  # noqa: PLR0917 - one parameter a fact
        self,
        provider: Provider,
        rng: Rng,
        realm: bytes,
        mode: Mode,
        own: Identity | None,
        peer: PeerKeys,
        now: float,
    ) -> None:
        require(realm, REALM_LEN, "realm id")
        if (own is None) != (mode is Mode.HOP):
            raise LocalError("mode hop is anonymous, the others are not")
        if own is not None and own.node_id == peer.node_id:
            raise LocalError("handshake with ourselves")
        self.mode = mode
        self.peer = peer
        self._own = own
        self._id = own.node_id if own else ANONYMOUS
        self._x = provider.dh_key(rng(X25519_LEN))  # HA1
        self._e: KemKey | None = provider.kem_key(rng(KEM_SEED_LEN))  # HB1
        self._hello_b = bytes([Kind.HELLO_B]) + self._e.public
        self._transcript = Transcript(provider, start(realm, mode, peer))
        self._hello_a = self._make_hello_a(provider, int(now))
        self._reply_a: tuple[bytes, bytes, Transcript] | None = None
        self._reply_b: tuple[bytes, bytes] | None = None
        self._confirm: bytes | None = None
        self._wiped = False
        self._secret: bytes | None = None

    def _make_hello_a(self, provider: Provider, now: int) -> bytes:
        t = self._transcript
        t.mix(self._x.public)  # HA1
        t.mix(self._x.exchange(self.peer.x25519))  # HA2
        ct_r, ss_r = provider.encaps(self.peer.mlkem)  # HA3
        t.mix(ct_r)
        t.mix(ss_r)
        plain = bytes([self.mode]) + self._id + now.to_bytes(8, "little") + _HELLO_RESERVED
        return bytes([Kind.HELLO_A]) + self._x.public + ct_r + t.seal(b"hello", plain)  # HA4

    def hellos(self) -> tuple[bytes, bytes]:
        """(hello A, hello B) payloads. Repeat A while `wants_reply_a`, B while `wants_reply_b`."""
        return self._hello_a, self._hello_b

    @property
    def wants_reply_a(self) -> bool:
        return self._reply_a is None

    @property
    def wants_reply_b(self) -> bool:
        return self._reply_b is None

    @property
    def ready_to_confirm(self) -> bool:
        return not (self.wants_reply_a or self.wants_reply_b)

    def receive(self, payload: bytes) -> None:
        """Take a reply. The first valid one of each kind counts, later ones are ignored, and all after `wipe`.

        RemoteError: LENGTH, KIND, PADDING, AUTH, KEY. Reply B can't be checked alone: a forged one makes the confirm
        fail, so give up after the repeats and start again with a new Initiator.
        """
        kind = parse_kind(payload)
        if self._wiped:
            return
        if kind is Kind.REPLY_A:
            if self.wants_reply_a:
                self._reply_a = self._open_reply_a(payload)
        elif kind is Kind.REPLY_B:
            if self.wants_reply_b:
                self._reply_b = self._open_reply_b(payload)
        else:
            raise RemoteError(Reason.KIND, f"{kind.name} to an initiator")

    def _open_reply_a(self, payload: bytes) -> tuple[bytes, bytes, Transcript]:
        x_r, c2, biscuit_a = split(payload, X25519_LEN, C2_LEN, BISCUIT_A_LEN)
        t = Transcript(self._transcript.provider, self._transcript.ck)  # CF1
        t.mix(x_r)
        t.mix(self._x.exchange(x_r))  # RA2
        if self._own:
            t.mix(self._own.dh.exchange(x_r))  # RA3
        ct_i = t.open(b"reply", c2)  # RA4
        if self._own:
            t.mix(self._own.kem.decaps(ct_i))
        elif ct_i != _NO_CIPHERTEXT:
            raise RemoteError(Reason.FIELD, "ciphertext to an anonymous initiator")
        return x_r, biscuit_a, t

    def _open_reply_b(self, payload: bytes) -> tuple[bytes, bytes]:
        if self._e is None:
            raise LocalError("handshake is wiped")
        ct_e, biscuit_b = split(payload, KEM_CIPHERTEXT_LEN, BISCUIT_B_LEN)
        ss_e = self._e.decaps(ct_e)  # CF2
        return ephemeral_digest(self._e.public, ct_e, ss_e), biscuit_b

    def confirm(self) -> bytes:
        """Confirm payload; from now on `secret` is there. LocalError before both replies are in."""
        if self._confirm is None:
            if self._reply_a is None or self._reply_b is None:
                raise LocalError("confirm before both replies")
            (x_r, biscuit_a, t), (m_e, biscuit_b) = self._reply_a, self._reply_b
            t = Transcript(t.provider, t.ck)
            t.mix(m_e)  # CF2
            c3 = t.seal(b"confirm", self._id)  # CF3
            self._secret = t.ck
            self._confirm = bytes([Kind.CONFIRM]) + x_r + biscuit_a + biscuit_b + c3
        return self._confirm

    @property
    def secret(self) -> bytes:
        """Last ck, 32 bytes, for `Session`. The session is up when a control message opens under it."""
        if self._secret is None:
            raise LocalError("secret before confirm")
        return self._secret

    def wipe(self) -> None:
        """Drop every secret, once `secret` is taken; hellos and a confirm that was made can still be repeated."""
        self._wiped = True
        self._transcript.ck = b""
        self._reply_a = self._reply_b = self._secret = None
        del self._x
        self._e = None


class Responder:
    """Answers hellos without keeping state; makes a session of the first valid confirm.

    `modes`: what this node serves at all. `lookup` and `admit` are asked at the hello and again at the confirm.
    """

    def __init__(  # noqa: PLR0917 - one parameter a fact
        self,
        provider: Provider,
        rng: Rng,
        realm: bytes,
        own: Identity,
        lookup: Lookup,
        modes: Collection[Mode],
        admit: Admit = lambda mode, peer_id: True,
    ) -> None:
        require(realm, REALM_LEN, "realm id")
        self._provider = provider
        self._rng = rng
        self._own = own
        self._lookup = lookup
        self._admit = admit
        public = own.public()
        self._starts = {mode: start(realm, mode, public) for mode in modes}
        self._jar = BiscuitJar(provider, rng)

    def expire(self, now: float) -> None:
        """Drop biscuit keys whose time is over; call once a minute, for forward secrecy while nobody knocks."""
        self._jar.expire(now)

    def receive(
        self, payload: bytes, origin: bytes, now: float, modes: Collection[Mode] | None = None
    ) -> Answer | Accepted | Repeated:
        """One payload from `origin` (outer 5-tuple, or link and label) at unix time `now`.

        `modes` narrows what this origin may ask for: a direct datagram only LINK, a circuit only HOP or STREAM.
        RemoteError: LENGTH, KIND, PADDING, AUTH, KEY, FIELD, TIME, PEER, STALE; send nothing then.
        """
        kind = parse_kind(payload)
        if kind is Kind.HELLO_A:
            return Answer(self._reply_a(payload, origin, now, self._starts if modes is None else modes))
        if kind is Kind.HELLO_B:
            return Answer(self._reply_b(payload, origin, now))
        if kind is Kind.CONFIRM:
            return self._confirm(payload, origin, now, self._starts if modes is None else modes)
        raise RemoteError(Reason.KIND, f"{kind.name} to a responder")

    def _open_hello(self, payload: bytes, modes: Collection[Mode]) -> tuple[Mode, bytes, Transcript]:
        """(mode, hello plaintext, transcript after HA4). Only the right mode opens c1, so each is tried."""
        x_i, ct_r, c1 = split(payload, X25519_LEN, KEM_CIPHERTEXT_LEN, C1_LEN)
        shared = self._own.dh.exchange(x_i)  # HA2
        ss_r = self._own.kem.decaps(ct_r)  # HA3
        for mode in self._starts:
            if mode not in modes:
                continue
            t = Transcript(self._provider, self._starts[mode])  # HS0
            for part in (x_i, shared, ct_r, ss_r):
                t.mix(part)
            try:
                return mode, t.open(b"hello", c1), t  # HA4
            except RemoteError:
                continue
        raise RemoteError(Reason.AUTH, "hello A")

    def _initiator_keys(self, mode: Mode, peer_id: bytes) -> PeerKeys | None:
        """Static keys of id_I, None in mode hop. RemoteError(PEER)."""
        if mode is Mode.HOP:
            if peer_id != ANONYMOUS:
                raise RemoteError(Reason.FIELD, "named initiator in mode hop")
            return None
        keys = None if peer_id in (ANONYMOUS, self._own.node_id) else self._lookup(peer_id)
        if keys is None or not self._admit(mode, peer_id):
            raise RemoteError(Reason.PEER)
        return keys

    def _check_hello(self, mode: Mode, plain: bytes, now: float) -> PeerKeys | None:
        peer_id, stamp = plain[1 : 1 + NODE_ID_LEN], plain[1 + NODE_ID_LEN : 9 + NODE_ID_LEN]
        if plain[0] != mode or not plain.endswith(_HELLO_RESERVED):
            raise RemoteError(Reason.FIELD, "hello A")
        if abs(int.from_bytes(stamp, "little") - now) > CLOCK_SKEW:
            raise RemoteError(Reason.TIME)
        return self._initiator_keys(mode, peer_id)

    def _reply_a(self, payload: bytes, origin: bytes, now: float, modes: Collection[Mode]) -> bytes:
        mode, plain, t = self._open_hello(payload, modes)
        peer = self._check_hello(mode, plain, now)  # RA1
        x = self._provider.dh_key(self._rng(X25519_LEN))  # RA2
        t.mix(x.public)
        t.mix(x.exchange(payload[1 : 1 + X25519_LEN]))
        ct_i, ss_i = _NO_CIPHERTEXT, b""
        if peer:
            t.mix(x.exchange(peer.x25519))  # RA3
            ct_i, ss_i = self._provider.encaps(peer.mlkem)
        c2 = t.seal(b"reply", ct_i)  # RA4
        if peer:
            t.mix(ss_i)
        peer_id = peer.node_id if peer else ANONYMOUS
        biscuit = self._jar.seal_a(x.public, BiscuitA(t.ck, peer_id, mode), origin, now)  # RA5
        return bytes([Kind.REPLY_A]) + x.public + c2 + biscuit

    def _reply_b(self, payload: bytes, origin: bytes, now: float) -> bytes:
        (ek_e,) = split(payload, KEM_PUBLIC_LEN)
        ct_e, ss_e = self._provider.encaps(ek_e, static=False)  # RB1
        return bytes([Kind.REPLY_B]) + ct_e + self._jar.seal_b(ephemeral_digest(ek_e, ct_e, ss_e), origin, now)  # RB2

    def _confirm(self, payload: bytes, origin: bytes, now: float, modes: Collection[Mode]) -> Accepted | Repeated:
        x_r, sealed_a, sealed_b, c3 = split(payload, X25519_LEN, BISCUIT_A_LEN, BISCUIT_B_LEN, C3_LEN)
        biscuit, generation = self._jar.open_a(x_r, sealed_a, origin, now)  # CF4
        t = Transcript(self._provider, biscuit.ck)
        t.mix(self._jar.open_b(sealed_b, origin, now))
        if not hmac.compare_digest(t.open(b"confirm", c3), biscuit.peer_id) or biscuit.mode not in modes:
            raise RemoteError(Reason.FIELD, "confirm")
        peer = self._initiator_keys(biscuit.mode, biscuit.peer_id)
        if x_r in generation.used:  # CF5
            return Repeated(x_r)
        generation.used.add(x_r)
        return Accepted(biscuit.mode, peer.node_id if peer else None, t.ck, x_r)
