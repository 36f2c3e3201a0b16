# SPDX-License-Identifier: Apache-2.0
"""Sessions back to back: keys, rekey under loss, duplication and restart, saved state."""

from __future__ import annotations

import random

import pytest

from tests.protocol.pair import NOW_NS, PROVIDER, Pair, mangled, reproducible, sessions
from veilnet.contract import STATE_LEN as STATE_ROOM
from veilnet.protocol.crypto import h
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.messages import Ping, Pong, Ready, Rekey, Rekeyed, encode_message
from veilnet.protocol.session import STATE_LEN, DirectionKeys, KeysReady, Session
from veilnet.protocol.transcript import Mode

MODES = list(Mode)


def same_keys(a: DirectionKeys, b: DirectionKeys) -> bool:
    return (a.mac, a.enc, a.control, a.stream_key(0), a.hp) == (b.mac, b.enc, b.control, b.stream_key(0), b.hp)


def mirrored(one: KeysReady, other: KeysReady) -> bool:
    slots = (one.epoch, one.slot) == (other.epoch, other.slot)
    return slots and same_keys(one.tx, other.rx) and same_keys(one.rx, other.tx)


def rekey(pair: Pair) -> tuple[KeysReady, KeysReady]:
    """One whole rekey without loss: what I and R installed."""
    request = pair.carry(pair.i, pair.r, pair.i.start_rekey())
    assert isinstance(request, Rekey)
    reply, r_keys = pair.r.on_rekey(request)
    answer = pair.carry(pair.r, pair.i, reply)
    assert isinstance(answer, Rekeyed)
    i_keys = pair.i.on_rekeyed(answer)
    assert i_keys is not None
    assert r_keys is not None
    return i_keys, r_keys


@pytest.mark.parametrize("mode", MODES)
def test_first_keys_mirror(mode: Mode) -> None:
    pair = sessions(mode)
    assert mirrored(pair.i.keys(), pair.r.keys())
    assert not same_keys(pair.i.keys().tx, pair.i.keys().rx)
    assert (pair.i.tx_hp, pair.i.rx_hp) == (pair.r.rx_hp, pair.r.tx_hp)
    assert pair.carry(pair.r, pair.i, Ready(0)) == Ready(0)


def test_keys_are_those_of_the_specification() -> None:
    ck = bytes(range(32))
    keys = Session(PROVIDER, reproducible("spec"), ck, Mode.STREAM, initiator=True).keys()
    assert keys.tx.mac == h(ck, b"i2r mac", b"")[:16]
    assert keys.rx.enc == h(ck, b"r2i enc", b"")[:16]
    assert keys.tx.stream_key(7) == h(ck, b"i2r key lane ", b"\7")
    assert keys.rx.hp == h(ck, b"r2i hp", b"")[:16]
    assert keys.tx.control == h(ck, b"i2r control", b"")
    parts = [k for d in (keys.tx, keys.rx) for k in (d.mac, d.enc, d.hp, d.control, *map(d.stream_key, range(255)))]
    assert len({part[:16] for part in parts}) == len(parts)


@pytest.mark.parametrize("mode", MODES)
def test_rekey_without_loss(mode: Mode) -> None:
    pair = sessions(mode)
    hps = (pair.i.tx_hp, pair.i.rx_hp)
    seen = [pair.i.keys().tx.stream_key(0)]
    for epoch in range(1, 5):
        i_keys, r_keys = rekey(pair)
        assert mirrored(i_keys, r_keys)
        assert (i_keys.epoch, i_keys.slot) == (epoch, epoch % 2)
        assert (i_keys.select_tx, r_keys.select_tx) == (True, False)
        assert (pair.r.epoch, pair.r.take_switch()) == (epoch - 1, None)
        assert pair.carry(pair.r, pair.i, Ping(epoch)) == Ping(epoch)  # R still sends under the old keys
        assert pair.carry(pair.i, pair.r, Ready(epoch)) == Ready(epoch)
        switch = pair.r.take_switch()
        assert switch is not None
        assert switch.select_tx
        assert same_keys(switch.tx, r_keys.tx)
        assert pair.r.take_switch() is None
        assert pair.carry(pair.r, pair.i, Pong(epoch)) == Pong(epoch)
        seen.append(i_keys.tx.stream_key(0))
    assert len(set(seen)) == 5
    assert hps == (pair.i.tx_hp, pair.i.rx_hp)


def test_responder_switches_on_data_too() -> None:
    pair = sessions(Mode.LINK)
    rekey(pair)
    pair.r.peer_switched()
    switch = pair.r.take_switch()
    assert switch is not None
    assert switch.epoch == pair.r.epoch == 1
    pair.r.peer_switched()
    assert pair.r.take_switch() is None


def test_old_control_key_lasts_until_the_peer_has_switched() -> None:
    pair = sessions(Mode.LINK)
    rekey(pair)
    late = pair.r.seal(Ping(1), NOW_NS + 10**10)[0]
    later = pair.r.seal(Ping(2), NOW_NS + 10**10)[0]
    assert pair.i.open(late) == Ping(1)
    pair.i.retire()
    with pytest.raises(RemoteError, match="auth"):
        pair.i.open(later)


def test_new_control_key_retires_the_old_one() -> None:
    pair = sessions(Mode.LINK)
    rekey(pair)
    old = pair.r.seal(Ping(1), NOW_NS + 10**10)[0]
    pair.carry(pair.i, pair.r, Ready(1))
    assert pair.carry(pair.r, pair.i, Pong(3)) == Pong(3)
    with pytest.raises(RemoteError, match="auth"):
        pair.i.open(old)


def test_repeated_request_gets_the_same_answer() -> None:
    pair = sessions(Mode.LINK)
    request = pair.i.start_rekey()
    assert pair.i.pending_rekey == request
    first, keys = pair.r.on_rekey(request)
    again, none = pair.r.on_rekey(request)
    assert (again, none) == (first, None)
    assert keys is not None
    i_keys = pair.i.on_rekeyed(first)
    assert i_keys is not None
    assert mirrored(i_keys, keys)
    assert pair.i.on_rekeyed(first) is None
    assert pair.i.pending_rekey is None


def test_answer_to_an_earlier_request_changes_nothing() -> None:
    pair = sessions(Mode.LINK)
    early, _ = pair.r.on_rekey(pair.i.start_rekey())
    late, keys = pair.r.on_rekey(pair.i.start_rekey())
    before = pair.i.to_bytes()
    with pytest.raises(RemoteError, match="auth"):
        pair.i.on_rekeyed(early)
    assert pair.i.to_bytes() == before
    i_keys = pair.i.on_rekeyed(late)
    assert i_keys is not None
    assert keys is not None
    assert mirrored(i_keys, keys)


@pytest.mark.parametrize("field", ["y", "ct", "check"])
def test_forged_answer_changes_nothing(field: str) -> None:
    pair = sessions(Mode.LINK)
    answer, _ = pair.r.on_rekey(pair.i.start_rekey())
    values = {name: getattr(answer, name) for name in ("epoch", "y", "ct", "check")}
    values[field] = values[field][:-1] + bytes([values[field][-1] ^ 1])
    before = pair.i.to_bytes()
    with pytest.raises(RemoteError, match="auth"):
        pair.i.on_rekeyed(Rekeyed(**values))
    assert pair.i.to_bytes() == before
    assert pair.i.on_rekeyed(answer) is not None


def test_epochs_and_roles() -> None:
    pair = sessions(Mode.LINK)
    request = pair.i.start_rekey()
    for epoch in (0, 2, 2**32 - 1):
        with pytest.raises(RemoteError, match="epoch"):
            pair.r.on_rekey(Rekey(epoch, request.x, request.ek))
    with pytest.raises(RemoteError, match="state"):
        pair.i.on_rekey(request)
    answer, _ = pair.r.on_rekey(request)
    with pytest.raises(RemoteError, match="state"):
        pair.r.on_rekeyed(answer)
    with pytest.raises(LocalError):
        pair.r.start_rekey()
    assert sessions(Mode.LINK).i.on_rekeyed(answer) is None


def test_bad_public_keys_change_nothing() -> None:
    pair = sessions(Mode.LINK)
    request = pair.i.start_rekey()
    before = pair.r.to_bytes()
    for bad in (Rekey(1, bytes(32), request.ek), Rekey(1, request.x, b"\xff" * 1184)):
        with pytest.raises(RemoteError, match="key"):
            pair.r.on_rekey(bad)
    assert pair.r.to_bytes() == before


def restarted(session: Session) -> Session:
    return Session.from_bytes(PROVIDER, reproducible("restart"), session.to_bytes())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["i", "r", "both"])
@pytest.mark.parametrize("step", range(4))
def test_restart_at_any_step_of_a_rekey(mode: Mode, who: str, step: int) -> None:
    pair = sessions(mode)

    def restart(now: int) -> None:
        if now == step:
            pair.i = restarted(pair.i) if who in ("i", "both") else pair.i
            pair.r = restarted(pair.r) if who in ("r", "both") else pair.r

    restart(0)
    request = pair.i.start_rekey()
    restart(1)
    assert pair.i.pending_rekey == request
    answer, keys = pair.r.on_rekey(request)
    restart(2)
    i_keys = pair.i.on_rekeyed(answer)
    assert i_keys is not None
    assert keys is not None
    assert mirrored(i_keys, keys)
    restart(3)
    assert pair.carry(pair.r, pair.i, Ping(1)) == Ping(1)
    assert pair.carry(pair.i, pair.r, Ready(1)) == Ready(1)
    assert pair.carry(pair.r, pair.i, Pong(1)) == Pong(1)
    assert mirrored(pair.i.keys(), pair.r.keys())


def test_responder_that_lost_its_answer_takes_a_fresh_request() -> None:
    pair = sessions(Mode.LINK)
    request = pair.i.start_rekey()
    pair.r.on_rekey(request)
    pair.r = restarted(pair.r)
    with pytest.raises(RemoteError, match="state"):
        pair.r.on_rekey(request)
    assert mirrored(*rekey(pair))


def test_replay_after_a_restart() -> None:
    pair = sessions(Mode.LINK)
    old = pair.i.seal(Ping(1), NOW_NS)
    assert pair.r.open(old[0]) == Ping(1)
    pair.r = restarted(pair.r)
    with pytest.raises(RemoteError, match="replay"):
        pair.r.open(old[0])
    pair.i = restarted(pair.i)
    assert pair.r.open(pair.i.seal(Ping(2), 0)[0]) == Ping(2)  # the clock went back to 1970


def test_state_fits_and_names_its_version() -> None:
    data = sessions(Mode.STREAM).i.to_bytes()
    assert len(data) == STATE_LEN <= min(1000, STATE_ROOM)
    assert Session.from_bytes(PROVIDER, reproducible("state"), data).mode is Mode.STREAM
    for bad in (data[:-1], data + b"\0", b"\2" + data[1:], data[:1] + b"\4" + data[2:], b""):
        with pytest.raises(LocalError):
            Session.from_bytes(PROVIDER, reproducible("state"), bad)


def test_authentic_garbage_is_the_peers_fault() -> None:
    pair = sessions(Mode.LINK)
    message = encode_message(Ping(1))
    reasons = set()
    for number, bad in enumerate(mangled(message)):
        for body in pair.i._channel.seal(bad, NOW_NS + number) if bad else []:
            try:
                pair.r.open(body)
            except RemoteError as error:
                reasons.add(error.reason)
    assert reasons == {Reason.KIND, Reason.LENGTH}


def test_wipe() -> None:
    pair = sessions(Mode.LINK)
    pair.i.start_rekey()
    held = [pair.i._ck, pair.i._pending.x, pair.i._pending.seed] if pair.i._pending else []
    pair.i.wipe()
    assert len(held) == 3
    assert not any(any(secret) for secret in held)
    body = pair.r.seal(Ping(1), NOW_NS)[0]
    with pytest.raises(RemoteError, match="auth"):
        pair.i.open(body)
    pair.i.retire()
    for use in (pair.i.start_rekey, pair.i.keys, pair.i.to_bytes, lambda: pair.i.seal(Ping(1), NOW_NS)):
        with pytest.raises(LocalError):
            use()
    request = sessions(Mode.LINK).i.start_rekey()
    pair.r.wipe()
    with pytest.raises(LocalError):
        pair.r.on_rekey(request)
    assert repr(b"secret" * 6) not in repr(
        Session(PROVIDER, reproducible("w"), b"secret__" * 4, Mode.LINK, initiator=True)
    )


class LossyWire:
    """Messages of both sides over a wire that loses, repeats and reorders bodies; no clock but the step number."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair, self.random = pair, random.Random(seed)
        self.flying: list[tuple[Session, bytes]] = []
        self.installed: dict[str, dict[int, KeysReady]] = {"i": {}, "r": {}}
        self.selected = {"i": 0, "r": 0}

    def send(self, receiver: Session, sender: Session, message: Ready | Ping | Rekey | Rekeyed) -> None:
        self.pair.clock += 1000
        for body in sender.seal(message, self.pair.clock):
            for _ in range(self.random.choice([0, 1, 1, 2])):
                self.flying.insert(
                    self.random.randint(max(0, len(self.flying) - 1), len(self.flying)), (receiver, body)
                )

    def deliver(self) -> None:
        while self.flying:
            receiver, body = self.flying.pop(0)
            try:
                message = receiver.open(body)
                self.react(receiver, message)
            except RemoteError as error:
                assert error.reason in (Reason.REPLAY, Reason.AUTH, Reason.EPOCH)  # noqa: PT017 - others must not happen

    def react(self, receiver: Session, message: object) -> None:
        i, r = self.pair.i, self.pair.r
        if receiver is r and (switch := r.take_switch()):
            self.selected["r"] = switch.epoch
        if isinstance(message, Rekey):
            answer, keys = r.on_rekey(message)
            if keys:
                self.installed["r"][keys.epoch] = keys
            self.send(i, r, answer)
        elif isinstance(message, Rekeyed):
            keys = i.on_rekeyed(message)
            if keys:
                self.installed["i"][keys.epoch] = keys
                self.selected["i"] = keys.epoch


@pytest.mark.parametrize("seed", range(12))
def test_rekeys_over_a_lossy_wire(seed: int) -> None:
    wire = LossyWire(sessions(MODES[seed % 3], f"lossy {seed}"), seed)
    i, r = wire.pair.i, wire.pair.r
    for step in range(400):
        if i.pending_rekey is None and i.epoch == r.epoch:
            i.start_rekey()
        if i.pending_rekey is not None:
            wire.send(r, i, i.start_rekey() if step % 7 == 6 else i.pending_rekey)
        else:
            wire.send(r, i, Ready(i.epoch))
        wire.send(i, r, Ping(step))
        wire.deliver()
        # each side can always read what the other sends: the receive keys of the slot in use are there, and the same
        assert r.epoch <= i.epoch <= r.epoch + 1
        for epoch in wire.installed["i"]:
            if epoch >= i.epoch:
                assert mirrored(wire.installed["i"][epoch], wire.installed["r"][epoch])
    assert i.epoch > 20
    assert wire.selected["i"] - wire.selected["r"] in (0, 1)
