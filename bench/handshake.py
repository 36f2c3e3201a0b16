# SPDX-License-Identifier: Apache-2.0
"""Full handshakes per second and core: sealed datagrams in, sealed datagrams out, session secret at the end.

CPU time of this process, so that other load on the machine weighs less. Beside it, in the same process and run: the
bare primitives of the same handshake, without codec, transcript and sealing, which no code around them can beat; and a
variant that authenticates by ML-DSA-65 signatures over an ephemeral X25519 and ML-KEM-768 exchange, bare as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

from bench.report import Row, row
from veilnet.protocol.crypto import CryptographyProvider
from veilnet.protocol.handshake import Accepted, Answer, Identity, Initiator, Mode, Responder
from veilnet.protocol.knock import KnockSchedule, open_knock, seal_knock

HANDSHAKES = 300
WARM_UP = 20
REALM, ORIGIN, CONTEXT = bytes(16), b"origin", b"bench"
NOW = 1_790_000_000.0
UNIT = "handshakes/s/core"
PROVIDER = CryptographyProvider()
Step = Callable[[], float]
"""One handshake; returns the CPU seconds of the responder's part."""


def _identity(node_id: bytes) -> Identity:
    return Identity.from_private(PROVIDER, node_id, os.urandom(32), os.urandom(64))


def anchor() -> Step:
    """The handshake of docs/protocol.md, mode link, over sealed datagrams."""
    alice, bob = _identity(b"a" * 16), _identity(b"b" * 16)
    responder = Responder(PROVIDER, os.urandom, REALM, bob, {alice.node_id: alice.public()}.get, (Mode.LINK,))
    schedule, peer = KnockSchedule(os.urandom(32)), bob.public()
    slot = schedule.slot_of(NOW)
    knock, reply = schedule.knock_keys(slot), schedule.reply_keys(slot)

    def respond(datagram: bytes) -> bytes:
        result = responder.receive(open_knock(knock, datagram), ORIGIN, NOW)
        if isinstance(result, Answer):
            return seal_knock(reply, result.payload, os.urandom)
        if not isinstance(result, Accepted):
            raise RuntimeError("handshake was not accepted")
        return result.secret

    def step() -> float:
        initiator = Initiator(PROVIDER, os.urandom, REALM, Mode.LINK, alice, peer, NOW)
        hellos = [seal_knock(knock, payload, os.urandom) for payload in initiator.hellos()]
        begin = time.process_time()
        replies = [respond(hello) for hello in hellos]
        spent = time.process_time() - begin
        for datagram in replies:
            initiator.receive(open_knock(reply, datagram))
        confirm = seal_knock(knock, initiator.confirm(), os.urandom)
        begin = time.process_time()
        secret = respond(confirm)
        spent += time.process_time() - begin
        if secret != initiator.secret:
            raise RuntimeError("the two sides disagree")
        return spent

    return step


def bare() -> Step:
    """The same key generations, exchanges and encapsulations, nothing else."""
    alice, bob = _identity(b"a" * 16), _identity(b"b" * 16)
    alice_ek, bob_ek = alice.kem.public, bob.kem.public

    def step() -> float:
        x, e = PROVIDER.dh_key(os.urandom(32)), PROVIDER.kem_key(os.urandom(64))
        x.exchange(bob.dh.public)
        ct_r, _ = PROVIDER.encaps(bob_ek)
        begin = time.process_time()
        y = PROVIDER.dh_key(os.urandom(32))
        bob.dh.exchange(x.public)
        bob.kem.decaps(ct_r)
        y.exchange(x.public)
        y.exchange(alice.dh.public)
        ct_i, _ = PROVIDER.encaps(alice_ek)
        ct_e, _ = PROVIDER.encaps(e.public, static=False)
        spent = time.process_time() - begin
        x.exchange(y.public)
        alice.dh.exchange(y.public)
        alice.kem.decaps(ct_i)
        e.decaps(ct_e)
        return spent

    return step


def signed() -> Step:
    """Ephemeral X25519 and ML-KEM-768, each side signs with ML-DSA-65 and verifies the other."""
    keys = [PROVIDER.signing_key(os.urandom(32)) for _ in range(2)]

    def step() -> float:
        x, e = PROVIDER.dh_key(os.urandom(32)), PROVIDER.kem_key(os.urandom(64))
        begin = time.process_time()
        y = PROVIDER.dh_key(os.urandom(32))
        y.exchange(x.public)
        ct, _ = PROVIDER.encaps(e.public, static=False)
        transcript = x.public + e.public + y.public + ct
        answer = keys[1].sign(transcript, CONTEXT)
        spent = time.process_time() - begin
        x.exchange(y.public)
        e.decaps(ct)
        good = PROVIDER.verify(keys[1].public, transcript, answer, CONTEXT)
        confirm = keys[0].sign(transcript + answer, CONTEXT)
        begin = time.process_time()
        good = PROVIDER.verify(keys[0].public, transcript + answer, confirm, CONTEXT) and good
        spent += time.process_time() - begin
        if not good:
            raise RuntimeError("a signature does not verify")
        return spent

    return step


def rates(make: Callable[[], Step]) -> tuple[float, float]:
    """(both sides, responder alone) per second of CPU."""
    step = make()
    for _ in range(WARM_UP):
        step()
    begin = time.process_time()
    responder = sum(step() for _ in range(HANDSHAKES))
    return HANDSHAKES / (time.process_time() - begin), HANDSHAKES / responder


def rows(runs: int) -> list[Row]:
    """Responder alone and both sides in one process."""
    makers = {"anchor": anchor, "bare primitives": bare, "ML-DSA-65 signed, bare": signed}
    # one after the other in each run, so that they see the same machine
    measured = [{name: rates(make) for name, make in makers.items()} for _ in range(runs)]
    result = []
    for index, side in ((1, "responder"), (0, "both sides")):
        medians = {name: round(median(run[name][index] for run in measured), 1) for name in makers}
        result.append(row(f"handshake, {side}", UNIT, medians.pop("anchor"), medians))
    return result
