# SPDX-License-Identifier: Apache-2.0
"""Frozen bytes of the whole protocol, in tests/vectors/anchor-*.json. Record again with UPDATE_VECTORS=1.

Everything comes from a reproducible generator but the coins of ML-KEM encapsulation, which `cryptography` does not
take: the vectors hold ciphertext and secret of each encapsulation, and the replaying provider hands them out again. The
receiving side always decapsulates for real, so recorded pairs that do not belong together would not agree.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.pair import NOW, NOW_NS, ORIGIN, REALM, answer, identity, initiator, padded, reproducible, responder
from veilnet.protocol.crypto import CryptographyProvider, Provider
from veilnet.protocol.frame import seal_frame, seal_stream
from veilnet.protocol.handshake import Accepted, Mode
from veilnet.protocol.knock import KnockSchedule, seal_knock
from veilnet.protocol.messages import Ping
from veilnet.protocol.session import KeysReady, Session

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


class RecordingProvider(CryptographyProvider):
    """Notes what each encapsulation gave."""

    def __init__(self) -> None:
        self.encapsulations: list[dict[str, str]] = []

    def encaps(self, public: bytes, *, static: bool = True) -> tuple[bytes, bytes]:
        ciphertext, secret = super().encaps(public, static=static)
        self.encapsulations.append({"ek": public.hex(), "ct": ciphertext.hex(), "ss": secret.hex()})
        return ciphertext, secret


class ReplayingProvider(CryptographyProvider):
    """Hands recorded encapsulations out again, in order and to the same public keys only."""

    def __init__(self, encapsulations: list[dict[str, str]]) -> None:
        self._left = list(encapsulations)

    def encaps(self, public: bytes, *, static: bool = True) -> tuple[bytes, bytes]:
        del static
        recorded = self._left.pop(0)
        assert bytes.fromhex(recorded["ek"]) == public
        return bytes.fromhex(recorded["ct"]), bytes.fromhex(recorded["ss"])


def epoch_keys(keys: KeysReady) -> dict[str, str]:
    """Keys of the initiator's sending direction."""
    tx = keys.tx
    return {
        "mac": tx.mac.hex(),
        "enc": tx.enc.hex(),
        "lane0": tx.stream_key(0).hex(),
        "hp": tx.hp.hex(),
        "control": tx.control.hex(),
    }


def handshake(mode: Mode, provider: Provider) -> tuple[dict[str, Any], Session, Session]:
    rng = reproducible(f"vector {mode.name}")
    i, r = initiator(rng, mode, provider=provider), responder(rng, provider=provider)
    hellos = i.hellos()
    replies = [answer(r, hello) for hello in hellos]
    for reply in replies:
        i.receive(reply)
    accepted = r.receive(padded(i.confirm()), ORIGIN, NOW)
    assert isinstance(accepted, Accepted)
    assert accepted.secret == i.secret
    names = ("hello_a", "hello_b", "reply_a", "reply_b", "confirm")
    payloads = dict(zip(names, (*hellos, *replies, i.confirm()), strict=True))
    vector = {name: payload.hex() for name, payload in payloads.items()}
    sides = [Session(provider, rng, accepted.secret, mode, initiator=who) for who in (True, False)]
    return {"payloads": vector, "secret": accepted.secret.hex()}, sides[0], sides[1]


def rekeyed(i: Session, r: Session) -> dict[str, Any]:
    request = i.start_rekey()
    reply, r_keys = r.on_rekey(request)
    i_keys = i.on_rekeyed(reply)
    assert i_keys is not None
    assert r_keys is not None
    assert i_keys.tx.mac == r_keys.rx.mac
    texts = {"x": request.x, "ek": request.ek, "y": reply.y, "ct": reply.ct, "check": reply.check}
    return {name: value.hex() for name, value in texts.items()} | {"keys": epoch_keys(i_keys)}


def frames(i: Session) -> dict[str, str]:
    """One frame of each kind under the keys of epoch 0."""
    rng, tx = reproducible("vector frames"), i.keys().tx
    knock = KnockSchedule(bytes(range(32)))
    stream = seal_stream(tx.stream_key(0), i.tx_hp, 5, 0, 0, bytes(range(64)), pad=3)
    return {
        "knock": seal_knock(knock.knock_keys(knock.slot_of(NOW)), b"\5" + bytes(range(100)), rng).hex(),
        "stream_body": stream.hex(),
        "frame": seal_frame(tx.mac, tx.enc, 0x123456, 7, 0x89ABCDEF, stream).hex(),
        "control_body": i.seal(Ping(1), NOW_NS)[0].hex(),
    }


def vector(mode: Mode, provider: Provider) -> dict[str, Any]:
    who = {name: identity(name) for name in ("alice", "bob")}
    parties = {name: {"id": p.node_id.hex(), "x25519": p.dh.public.hex()} for name, p in who.items()}
    result, i, r = handshake(mode, provider)
    head = {"mode": int(mode), "realm": REALM.hex(), "now": NOW, "origin": ORIGIN.hex(), "parties": parties}
    return head | result | {"keys": epoch_keys(i.keys()), "frames": frames(i), "rekey": rekeyed(i, r)}


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name.lower())
def test_frozen_vector(mode: Mode) -> None:
    path = VECTORS / f"anchor-{mode.name.lower()}.json"
    if os.environ.get("UPDATE_VECTORS"):
        recording = RecordingProvider()
        recorded = vector(mode, recording) | {"encapsulations": recording.encapsulations}
        path.write_text(json.dumps(recorded, indent=1) + "\n")
    stored = json.loads(path.read_text())
    replaying = ReplayingProvider(stored.pop("encapsulations"))
    assert vector(mode, replaying) == stored
    assert replaying._left == []


def test_recorded_pairs_are_checked_by_decapsulation() -> None:
    stored = json.loads((VECTORS / "anchor-link.json").read_text())["encapsulations"]
    stored[0]["ss"] = "00" * 32
    with pytest.raises(Exception, match="auth"):
        vector(Mode.LINK, ReplayingProvider(stored))
