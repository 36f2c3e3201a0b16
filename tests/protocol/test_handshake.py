# SPDX-License-Identifier: Apache-2.0
"""Initiator and Responder back to back: all modes, everything that may go wrong on the way."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.protocol.pair import (
    ALICE,
    BOB,
    DIRECTORY,
    MALLORY,
    NOW,
    ORIGIN,
    PROVIDER,
    REALM,
    answer,
    initiator,
    mangled,
    padded,
    reproducible,
    responder,
    shake,
)
from veilnet.protocol import biscuit
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.handshake import (
    Accepted,
    Answer,
    Identity,
    Initiator,
    Kind,
    Mode,
    Repeated,
    Responder,
    parse_kind,
)
from veilnet.protocol.knock import PAYLOAD_LEN, KnockSchedule, open_knock, seal_knock
from veilnet.protocol.transcript import FIELDS_LEN

MODES = list(Mode)


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(RemoteError) as error:
        call()
    return error.value.reason


def until_confirm(mode: Mode = Mode.LINK, seed: str = "handshake") -> tuple[Initiator, Responder]:
    rng = reproducible(seed)
    i, r = initiator(rng, mode), responder(rng)
    for hello in i.hellos():
        i.receive(answer(r, hello))
    return i, r


@pytest.mark.parametrize("mode", MODES)
def test_both_sides_agree(mode: Mode) -> None:
    rng = reproducible("agree")
    i, r = initiator(rng, mode), responder(rng)
    accepted = shake(i, r)
    assert accepted.secret == i.secret
    assert accepted.mode is mode
    assert accepted.peer_id == (None if mode is Mode.HOP else ALICE.node_id)
    assert shake(initiator(rng, mode), r).secret != accepted.secret


@pytest.mark.parametrize("mode", MODES)
def test_over_sealed_datagrams(mode: Mode) -> None:
    rng = reproducible("datagrams")
    knock = KnockSchedule(rng(32))
    slot = knock.slot_of(NOW)
    i, r = initiator(rng, mode), responder(rng)

    def over_the_wire(payload: bytes) -> Answer | Accepted | Repeated:
        keys = knock.knock_keys(slot)
        return r.receive(open_knock(keys, seal_knock(keys, payload, rng)), ORIGIN, NOW)

    for hello in i.hellos():
        reply = over_the_wire(hello)
        assert isinstance(reply, Answer)
        i.receive(open_knock(knock.reply_keys(slot), seal_knock(knock.reply_keys(slot), reply.payload, rng)))
    accepted = over_the_wire(i.confirm())
    assert isinstance(accepted, Accepted)
    assert accepted.secret == i.secret


def test_payload_lengths_are_those_of_the_specification() -> None:
    i, r = until_confirm()
    payloads = [*i.hellos(), *(r.receive(padded(x), ORIGIN, NOW) for x in i.hellos()), i.confirm()]
    lengths = [len(x.payload if isinstance(x, Answer) else x) for x in payloads]  # type: ignore[arg-type]
    assert lengths == [1178, 1185, 1204, 1149, 192]
    assert [1 + FIELDS_LEN[kind] for kind in Kind] == lengths
    assert max(lengths) == PAYLOAD_LEN


@pytest.mark.parametrize("first", [0, 1])
def test_replies_in_any_order_and_twice(first: int) -> None:
    rng = reproducible("order")
    i, r = initiator(rng, Mode.LINK), responder(rng)
    order = [i.hellos()[first], i.hellos()[1 - first], *i.hellos()]
    replies = [answer(r, hello) for hello in order]
    assert not i.ready_to_confirm
    i.receive(replies[0])
    assert (i.wants_reply_a, i.wants_reply_b) == ((False, True) if first == 0 else (True, False))
    for reply in replies:
        i.receive(reply)
    accepted = r.receive(padded(i.confirm()), ORIGIN, NOW)
    assert isinstance(accepted, Accepted)
    assert accepted.secret == i.secret


def test_repeated_hello_is_the_same_payload_and_gets_a_fresh_reply() -> None:
    rng = reproducible("repeat")
    i, r = initiator(rng, Mode.LINK), responder(rng)
    assert i.hellos() == i.hellos()
    assert answer(r, i.hellos()[0]) != answer(r, i.hellos()[0])


def test_repeated_confirm_makes_no_second_session() -> None:
    i, r = until_confirm()
    accepted = r.receive(padded(i.confirm()), ORIGIN, NOW)
    assert isinstance(accepted, Accepted)
    for later in (0, 1, 299, 599):
        again = r.receive(padded(i.confirm()), ORIGIN, NOW + later)
        assert again == Repeated(accepted.x_r)
    assert reason_of(lambda: r.receive(padded(i.confirm()), ORIGIN, NOW + 601)) is Reason.STALE


def test_a_full_memory_of_confirms_rotates_the_key_instead_of_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biscuit, "BISCUIT_USED_MAX", 3)
    rng = reproducible("full")
    r = responder(rng)
    confirms: list[bytes] = []
    for _ in range(20):
        i = initiator(rng, Mode.HOP)
        shake(i, r)
        confirms.append(padded(i.confirm()))
        for old in confirms:
            try:
                assert isinstance(r.receive(old, ORIGIN, NOW), Repeated)
            except RemoteError as error:
                stale = error.reason
    assert stale is Reason.STALE


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (299, True), (301, True), (590, True), (601, False)])
def test_age_of_a_confirm(age: float, fresh: bool) -> None:
    i, r = until_confirm()
    if fresh:
        assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW + age), Accepted)
    else:
        assert reason_of(lambda: r.receive(padded(i.confirm()), ORIGIN, NOW + age)) is Reason.STALE


def test_biscuit_keys_go_while_nobody_knocks() -> None:
    i, r = until_confirm()
    keys = [generation.key for generation in r._jar._keys]
    r.expire(NOW + 600)
    assert all(not any(key) for key in keys)
    assert reason_of(lambda: r.receive(padded(i.confirm()), ORIGIN, NOW)) is Reason.STALE


def test_a_clock_that_went_back_does_not_keep_a_key() -> None:
    i, r = until_confirm()
    assert reason_of(lambda: r.receive(padded(i.confirm()), ORIGIN, NOW - 1)) is Reason.STALE


def test_confirm_from_elsewhere() -> None:
    i, r = until_confirm()
    assert reason_of(lambda: r.receive(padded(i.confirm()), b"another origin", NOW)) is Reason.STALE
    assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW), Accepted)


@pytest.mark.parametrize(("skew", "served"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_clock_skew(skew: int, served: bool) -> None:
    rng = reproducible("skew")
    i, r = initiator(rng, Mode.LINK, now=NOW + skew), responder(rng)
    if served:
        assert answer(r, i.hellos()[0])
    else:
        assert reason_of(lambda: answer(r, i.hellos()[0])) is Reason.TIME


def test_wrong_realm_responder_or_mode() -> None:
    rng = reproducible("wrong")
    other_realm = initiator(rng, Mode.LINK, realm=bytes(16))
    other_peer = initiator(rng, Mode.LINK, peer=MALLORY)
    for i in (other_realm, other_peer):
        assert reason_of(lambda i=i: answer(responder(rng), i.hellos()[0])) is Reason.AUTH  # type: ignore[misc]
    only_links = Responder(PROVIDER, rng, REALM, BOB, DIRECTORY.get, {Mode.LINK})
    for mode in (Mode.HOP, Mode.STREAM):
        assert reason_of(lambda m=mode: answer(only_links, initiator(rng, m).hellos()[0])) is Reason.AUTH  # type: ignore[misc]


def test_an_origin_narrows_the_modes_of_hello_and_confirm() -> None:
    rng = reproducible("narrow")
    r = responder(rng)
    i = initiator(rng, Mode.LINK)
    in_circuit = (Mode.HOP, Mode.STREAM)
    assert reason_of(lambda: r.receive(padded(i.hellos()[0]), ORIGIN, NOW, modes=in_circuit)) is Reason.AUTH
    for hello in i.hellos():
        i.receive(answer(r, hello))
    assert reason_of(lambda: r.receive(padded(i.confirm()), ORIGIN, NOW, modes=in_circuit)) is Reason.FIELD
    assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW, modes=(Mode.LINK,)), Accepted)


@pytest.mark.parametrize("when", ["hello", "confirm"])
def test_unknown_or_revoked_initiator(when: str) -> None:
    rng = reproducible("revoked")
    known = dict(DIRECTORY)
    r = Responder(PROVIDER, rng, REALM, BOB, known.get, tuple(Mode))
    i = initiator(rng, Mode.STREAM)
    if when == "confirm":
        for hello in i.hellos():
            i.receive(answer(r, hello))
    del known[ALICE.node_id]
    payload = i.confirm() if when == "confirm" else i.hellos()[0]
    assert reason_of(lambda: r.receive(padded(payload), ORIGIN, NOW)) is Reason.PEER


def test_our_own_hello_reflected() -> None:
    """Alice's hello to Bob, sent back to Alice, opens nothing; nor does a reply sent to the one that made it."""
    rng = reproducible("reflected")
    i, r = initiator(rng, Mode.LINK), responder(rng)
    assert reason_of(lambda: answer(responder(rng, own=ALICE), i.hellos()[0])) is Reason.AUTH
    for hello in i.hellos():
        reply = answer(r, hello)
        assert reason_of(lambda x=reply: r.receive(x, ORIGIN, NOW)) is Reason.KIND  # type: ignore[misc]
        assert reason_of(lambda x=hello: i.receive(padded(x))) is Reason.KIND  # type: ignore[misc]


def test_a_member_can_not_pose_as_another() -> None:
    """Mallory knows every public key and claims to be Alice: the confirm needs Alice's static keys."""
    rng = reproducible("pose")
    r = responder(rng)
    posing = Identity(ALICE.node_id, MALLORY.dh, MALLORY.kem)
    i = Initiator(PROVIDER, rng, REALM, Mode.LINK, posing, BOB.public(), NOW)
    reply = answer(r, i.hellos()[0])
    assert reason_of(lambda: i.receive(reply)) is Reason.AUTH


def test_a_member_can_not_answer_for_another() -> None:
    rng = reproducible("answer")
    i = initiator(rng, Mode.LINK)
    posing = Responder(PROVIDER, rng, REALM, Identity(BOB.node_id, MALLORY.dh, MALLORY.kem), DIRECTORY.get, tuple(Mode))
    assert reason_of(lambda: answer(posing, i.hellos()[0])) is Reason.AUTH


def test_replies_of_two_handshakes_do_not_mix() -> None:
    rng = reproducible("mix")
    r = responder(rng)
    one, two = initiator(rng, Mode.LINK), initiator(rng, Mode.LINK)
    replies = [[answer(r, hello) for hello in i.hellos()] for i in (one, two)]
    assert reason_of(lambda: one.receive(replies[1][0])) is Reason.AUTH
    one.receive(replies[0][0])
    one.receive(replies[1][1])  # reply B can't be checked alone
    assert reason_of(lambda: r.receive(padded(one.confirm()), ORIGIN, NOW)) is Reason.AUTH


@pytest.mark.parametrize("mode", [Mode.LINK, Mode.HOP])
def test_mangled_hello_a(mode: Mode) -> None:
    rng = reproducible("mangle a")
    i, r = initiator(rng, mode), responder(rng)
    hello = i.hellos()[0]
    reasons = {reason_of(lambda x=bad: r.receive(x, ORIGIN, NOW)) for bad in mangled(padded(hello))}  # type: ignore[misc]
    assert reasons == {Reason.LENGTH, Reason.KIND, Reason.PADDING, Reason.AUTH}
    assert shake(i, r).secret == i.secret


def test_mangled_hello_b() -> None:
    """Nothing in it is authentic: R answers, or refuses a key that is none; I is never served by such an answer."""
    i, r = until_confirm()
    reasons = set()
    for bad in mangled(padded(i.hellos()[1])):
        try:
            assert isinstance(r.receive(bad, ORIGIN, NOW), Answer)
        except RemoteError as error:
            reasons.add(error.reason)
    assert reasons == {Reason.LENGTH, Reason.KIND, Reason.PADDING, Reason.KEY}
    assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW), Accepted)


def test_mangled_reply_a_changes_nothing() -> None:
    rng = reproducible("mangle reply")
    i, r = initiator(rng, Mode.LINK), responder(rng)
    reply_a, reply_b = (answer(r, hello) for hello in i.hellos())
    biscuit_at = 1 + 32 + 1104
    for bad in mangled(reply_a):
        copied = copy.copy(i)
        if bad[:biscuit_at] == reply_a[:biscuit_at] and len(bad) == len(reply_a):
            continue  # the biscuit is for R to check: see the confirm below
        with pytest.raises(RemoteError):
            copied.receive(bad)
        assert copied.wants_reply_a
    i.receive(reply_a)
    i.receive(reply_b)
    assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW), Accepted)


def test_mangled_reply_b_never_makes_a_session() -> None:
    rng = reproducible("mangle reply b")
    i, r = initiator(rng, Mode.LINK), responder(rng)
    reply_a, reply_b = (answer(r, hello) for hello in i.hellos())
    i.receive(reply_a)
    for bad in mangled(reply_b):
        copied = copy.copy(i)
        try:
            copied.receive(bad)
        except RemoteError:
            continue
        if copied.ready_to_confirm:
            with pytest.raises(RemoteError):
                r.receive(padded(copied.confirm()), ORIGIN, NOW)
    i.receive(reply_b)
    assert isinstance(r.receive(padded(i.confirm()), ORIGIN, NOW), Accepted)


def test_mangled_confirm_makes_no_session() -> None:
    i, r = until_confirm()
    confirm = padded(i.confirm())
    reasons = {reason_of(lambda x=bad: r.receive(x, ORIGIN, NOW)) for bad in mangled(confirm)}  # type: ignore[misc]
    assert reasons == {Reason.LENGTH, Reason.KIND, Reason.PADDING, Reason.STALE, Reason.AUTH}
    assert isinstance(r.receive(confirm, ORIGIN, NOW), Accepted)


def test_points_of_low_order() -> None:
    i, r = until_confirm()
    low = i.hellos()[0]
    assert reason_of(lambda: r.receive(padded(low[:1] + bytes(32) + low[33:]), ORIGIN, NOW)) is Reason.KEY


def test_noise_is_not_a_payload() -> None:
    rng = reproducible("noise")
    kinds = [payload[0] for payload in (rng(PAYLOAD_LEN) for _ in range(2000)) if not _refused(payload)]
    assert set(kinds) <= {Kind.REPLY_A}


def _refused(payload: bytes) -> bool:
    try:
        parse_kind(payload)
    except RemoteError:
        return True
    return False


def test_calls_out_of_order_are_ours() -> None:
    rng = reproducible("local")
    i = initiator(rng, Mode.LINK)
    for call in (i.confirm, lambda: i.secret):
        with pytest.raises(LocalError):
            call()
    with pytest.raises(LocalError):
        Initiator(PROVIDER, rng, REALM, Mode.HOP, ALICE, BOB.public(), NOW)
    with pytest.raises(LocalError):
        Initiator(PROVIDER, rng, REALM, Mode.LINK, None, BOB.public(), NOW)
    with pytest.raises(LocalError):
        Initiator(PROVIDER, rng, REALM, Mode.LINK, ALICE, ALICE.public(), NOW)
    with pytest.raises(LocalError):
        responder(rng, realm=b"short")


def test_secrets_are_not_in_the_representation() -> None:
    i, r = until_confirm()
    accepted = r.receive(padded(i.confirm()), ORIGIN, NOW)
    assert isinstance(accepted, Accepted)
    assert repr(accepted.secret) not in repr(accepted)
    confirm = i.confirm()
    i.wipe()
    with pytest.raises(LocalError):
        _ = i.secret
    assert i.confirm() == confirm
    for hello in i.hellos():
        i.receive(answer(r, hello))
    assert not i.ready_to_confirm
