# SPDX-License-Identifier: Apache-2.0
"""Two sides back to back in memory, with a reproducible generator, and the mangling that every decoder is fed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from veilnet.protocol.crypto import CryptographyProvider, Provider, Rng
from veilnet.protocol.handshake import Accepted, Answer, Identity, Initiator, Mode, PeerKeys, Responder
from veilnet.protocol.knock import PAYLOAD_LEN
from veilnet.protocol.messages import Message
from veilnet.protocol.session import Session

REALM = b"realm-0123456789"
NOW = 1_790_000_000.0
NOW_NS = int(NOW) * 10**9
ORIGIN = b"origin"
PROVIDER = CryptographyProvider()


def reproducible(seed: str) -> Rng:
    """SHAKE-256 of seed and call number: the same in every run."""
    calls = 0

    def rng(length: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{seed} {calls}".encode()).digest(length)

    return rng


def identity(name: str, provider: Provider = PROVIDER) -> Identity:
    rng = reproducible(f"identity {name}")
    return Identity.from_private(provider, rng(16), rng(32), rng(64))


ALICE, BOB, MALLORY = identity("alice"), identity("bob"), identity("mallory")
DIRECTORY: dict[bytes, PeerKeys] = {who.node_id: who.public() for who in (ALICE, BOB, MALLORY)}


def padded(payload: bytes) -> bytes:
    """What the other side gets to see of a payload."""
    return payload.ljust(PAYLOAD_LEN, b"\0")


def responder(rng: Rng, own: Identity = BOB, realm: bytes = REALM, provider: Provider = PROVIDER) -> Responder:
    return Responder(provider, rng, realm, own, DIRECTORY.get, tuple(Mode))


def initiator(  # noqa: PLR0917 - as the constructor
    rng: Rng, mode: Mode, peer: Identity = BOB, realm: bytes = REALM, provider: Provider = PROVIDER, now: float = NOW
) -> Initiator:
    return Initiator(provider, rng, realm, mode, None if mode is Mode.HOP else ALICE, peer.public(), now)


def answer(side: Responder, payload: bytes, origin: bytes = ORIGIN, now: float = NOW) -> bytes:
    result = side.receive(padded(payload), origin, now)
    assert isinstance(result, Answer)
    return padded(result.payload)


def shake(i: Initiator, r: Responder, now: float = NOW) -> Accepted:
    """The whole handshake without loss."""
    for hello in i.hellos():
        i.receive(answer(r, hello, now=now))
    accepted = r.receive(padded(i.confirm()), ORIGIN, now)
    assert isinstance(accepted, Accepted)
    return accepted


@dataclass
class Pair:
    """Sessions of both sides; `carry` brings a message from one to the other."""

    i: Session
    r: Session
    clock: int = NOW_NS

    def carry(self, sender: Session, receiver: Session, message: Message) -> Message | None:
        self.clock += 1_000_000
        opened = [receiver.open(body) for body in sender.seal(message, self.clock)]
        return opened[-1]


def sessions(mode: Mode, seed: str = "sessions") -> Pair:
    rng = reproducible(seed)
    i, r = initiator(rng, mode), responder(rng)
    accepted = shake(i, r)
    return Pair(
        Session(PROVIDER, rng, i.secret, mode, initiator=True),
        Session(PROVIDER, rng, accepted.secret, mode, initiator=False),
    )


def mangled(data: bytes) -> Iterator[bytes]:
    """Every truncation, one byte too many, every single bit flipped."""
    for length in range(len(data)):
        yield data[:length]
    yield data + b"\0"
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
