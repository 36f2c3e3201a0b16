# SPDX-License-Identifier: Apache-2.0
"""Authenticated frames: forwarding, key slots, replay, labels, budgets, next hop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import (
    BODY,
    EGRESS,
    END,
    FORWARD,
    HS_BODY,
    IN,
    K_IN,
    K_IN_NEXT,
    K_OUT,
    K_OUT_NEXT,
    K_WRONG,
    LOCAL,
    OUT,
    OUT_LABEL,
    PORT,
    Case,
    event,
    forwarded,
    frame,
    packet,
    set_link,
)
from veilnet import contract as c

Change = Callable[[h.World], object]
BIG = bytes(1400)


def both(*changes: Change) -> Change:
    def change(world: h.World) -> None:
        for one in changes:
            one(world)

    return change


def link(index: int, **fields: Any) -> Change:
    return lambda world: set_link(world, index, **fields)


def circuit(label: int = FORWARD, **fields: int) -> Change:
    return lambda world: world.put_circuit(label, **fields)


def rx_key(slot: int, key: o.SipKey | None, index: int = 1) -> Change:
    def change(world: h.World) -> None:
        rx = world.links[index].rx[slot]
        rx.valid = key is not None
        if key:
            rx.key.mac[:], rx.key.enc[:] = h.words(key.mac), h.words(key.enc)

    return change


def tx_key(slot: int, key: o.SipKey, counter: int = 0) -> Change:
    def change(world: h.World) -> None:
        tx = world.links[2].tx[slot]
        tx.key.mac[:], tx.key.enc[:], tx.counter = h.words(key.mac), h.words(key.enc), counter

    return change


def counter(value: int) -> Change:
    return tx_key(0, K_OUT, value)


def window(at: int, word: int, slot: int = 0) -> Change:
    def change(world: h.World) -> None:
        world.links[1].win[slot][at] = word

    return change


def l2(**fields: int) -> Change:
    def change(world: h.World) -> None:
        for name, value in fields.items():
            setattr(world.links[2].l2, name, value)

    return change


def overflow(world: h.World) -> None:
    """The bucket of IN is full of others and link 1 stands in links_wide."""
    bucket = world.buckets[h.bucket_of(IN, world.config.bucket_seed)]
    for way in bucket.way:
        way.link = 0
    world.fill_bucket(IN, 3)
    world.put_wide(IN, 1)


def hole(world: h.World) -> None:
    """As overflow, but one way is free again: links_wide is not looked at."""
    overflow(world)
    world.buckets[h.bucket_of(IN, world.config.bucket_seed)].way[2].link = 0


def last_way(world: h.World) -> None:
    """Link 1 stands in the last of four ways."""
    bucket = world.buckets[h.bucket_of(IN, world.config.bucket_seed)]
    for way in bucket.way:
        way.link = 0
    world.fill_bucket(IN, 3)
    world.put_way(IN, 1, way=3)


def relayed(name: str, payload: bytes | None = None, change: Change = lambda _: None, **out: Any) -> Case:
    return Case(name, packet(payload), h.XDP_TX, "OK_FORWARD", out=forwarded(**out), change=change)


def passed(name: str, payload: bytes, reason: str, change: Change = lambda _: None) -> Case:
    return Case(name, packet(payload), h.XDP_PASS, reason, change=change)


def dropped(name: str, payload: bytes, reason: str, change: Change = lambda _: None) -> Case:
    return Case(name, packet(payload), h.XDP_DROP, reason, change=change)


def control(name: str, payload: bytes, *, change: Change = lambda _: None, **fields: Any) -> Case:
    raised = event(c.EVENT_CONTROL, payload[c.FRAME_LEN :], link=1, **fields)
    return Case(name, packet(payload), h.XDP_DROP, "OK_CONTROL", change=change, event=raised)


MUTE = both(rx_key(0, None), rx_key(1, None))
SECOND = both(rx_key(0, None), rx_key(1, K_IN_NEXT))
NEXT_FRAME = frame(key=K_IN_NEXT)
LIMIT = c.COUNTER_LIMIT

CASES = [
    relayed("forward"),
    Case("redirect", packet(), h.XDP_REDIRECT, "OK_FORWARD", out=forwarded(), change=l2(ifindex=EGRESS)),
    Case(
        "hairpin: back to where it came from",
        packet(),
        h.XDP_TX,
        "OK_FORWARD",
        out=o.sent(
            IN.back(),
            o.seal(K_OUT_NEXT, OUT_LABEL, 8, 0, BODY),
            o.mac_bytes(1, 1),
            o.mac_bytes(1, 2),
        ),
        change=lambda w: (circuit(out_link=1)(w), w.put_link(1, IN, tx=(K_OUT_NEXT, None))),
    ),
    relayed("budget 1", frame(budget=1), budget=0),
    relayed("budget 255", frame(budget=255), budget=254),
    dropped("budget 0", frame(budget=0), "DROP_BUDGET"),
    relayed("counter 0", frame(counter=0)),
    relayed("highest counter", frame(counter=0xFFFFFFFF)),
    relayed(
        "highest label",
        frame(label=c.LABELS - 1),
        circuit(c.LABELS - 1, kind=1, in_link=1, out_link=2, out_label=7),
        label=7,
    ),
    relayed("outgoing label 2^24 - 1", None, circuit(out_label=0xFFFFFF), label=0xFFFFFF),
    relayed("send counter 1000", None, counter(1000), counter=1000),
    relayed("last send counter", None, counter(LIMIT - 1), counter=LIMIT - 1),
    dropped("send counter at its limit", frame(), "DROP_EXHAUSTED", counter(LIMIT)),
    dropped("send counter above 32 bits", frame(), "DROP_EXHAUSTED", counter(1 << 32)),
    relayed("send slot 1", None, both(tx_key(1, K_OUT_NEXT, 17), link(2, tx_slot=1)), key=K_OUT_NEXT, counter=17),
    relayed("receive slot 1 only", NEXT_FRAME, SECOND),
    relayed("receive slot 1, hint 1", NEXT_FRAME, both(SECOND, link(1, rx_hint=1))),
    relayed("both slots, hint 0, frame of slot 1", NEXT_FRAME, rx_key(1, K_IN_NEXT)),
    relayed("both slots, hint 1, frame of slot 0", None, both(rx_key(1, K_IN_NEXT), link(1, rx_hint=1))),
    relayed("hint out of range", None, link(1, rx_hint=0xFFFFFFFE)),
    passed("slot 1 not valid", NEXT_FRAME, "PASS_LINK_TAG"),
    passed("no valid slot", frame(), "PASS_LINK_TAG", MUTE),
    passed("wrong key", frame(key=K_WRONG), "PASS_LINK_TAG"),
    passed("mac right, enc wrong", frame(key=o.SipKey(K_IN.mac, K_WRONG.enc)), "PASS_LINK_TAG"),
    passed("enc right, mac wrong", frame(key=o.SipKey(K_WRONG.mac, K_IN.enc)), "PASS_LINK_TAG"),
    passed("all zeros", bytes(64), "PASS_LINK_TAG"),
    passed("all ones", b"\xff" * 64, "PASS_LINK_TAG"),
    Case(
        "dark: wrong tag",
        packet(frame(key=K_WRONG)),
        h.XDP_DROP,
        "PASS_LINK_TAG",
        change=lambda w: setattr(w.config, "dark", 1),
    ),
    passed("counter seen", frame(counter=5), "PASS_LINK_REPLAY", window(0, 1 << 5)),
    relayed("counter's neighbours seen", frame(counter=5), window(0, 0xFFFFFFFF ^ 1 << 5)),
    passed("counter a whole window old", frame(counter=5), "PASS_LINK_REPLAY", window(0, 64 << 32)),
    relayed("slots have windows of their own", NEXT_FRAME, both(rx_key(1, K_IN_NEXT), window(0, 0xFFFFFFFF))),
    Case(
        "dark: replay",
        packet(),
        h.XDP_DROP,
        "PASS_LINK_REPLAY",
        change=both(window(0, 1 << 5), lambda w: setattr(w.config, "dark", 1)),
    ),
    dropped("unknown label", frame(label=77), "DROP_LABEL"),
    dropped("label beyond the table", frame(label=c.LABELS), "DROP_LABEL"),
    dropped("label 2^24 - 1", frame(label=0xFFFFFF), "DROP_LABEL"),
    dropped("another link's label", frame(), "DROP_LABEL", circuit(in_link=2)),
    dropped("another link's LOCAL label", frame(label=LOCAL), "DROP_LABEL", circuit(LOCAL, in_link=2)),
    dropped("another link's END label", frame(label=END), "DROP_LABEL", circuit(END, in_link=2)),
    dropped("label of an unset link", frame(), "DROP_LABEL", circuit(in_link=0)),
    dropped("removed circuit", frame(), "DROP_LABEL", circuit(kind=0)),
    dropped("circuit of unknown kind", frame(), "DROP_LABEL", circuit(kind=9)),
    dropped("next link pending", frame(), "DROP_LINK_DOWN", link(2, state=c.LINK_PENDING)),
    dropped("next link removed", frame(), "DROP_LINK_DOWN", link(2, state=c.LINK_UNSET)),
    dropped("next link 0", frame(), "DROP_LINK_DOWN", both(circuit(out_link=0), link(0, state=c.LINK_UP))),
    dropped("next link beyond the table", frame(), "DROP_LINK_DOWN", circuit(out_link=c.LINKS)),
    relayed("exactly the next MTU", None, link(2, mtu=28 + 16 + len(BODY))),
    dropped("one above the next MTU", frame(), "DROP_TOO_BIG", link(2, mtu=28 + 15 + len(BODY))),
    dropped("MTU never set", frame(), "DROP_TOO_BIG", link(2, mtu=0)),
    relayed("1400 byte body", frame(body=BIG), body=BIG),
    dropped("no next hop known", frame(), "DROP_NO_ROUTE", l2(stamp=0)),
    relayed("old next hop kept when the look-up fails", None, l2(stamp=1)),
    relayed("bucket overflow", None, overflow),
    relayed("last way of a bucket", None, last_way),
    passed("links_wide only when the bucket is full", frame(), "PASS_NO_LINK", hole),
    passed("link removed, still in the bucket", frame(), "PASS_NO_LINK", link(1, state=c.LINK_UNSET)),
    passed("pending link, data frame", frame(), "PASS_LINK_TAG", link(1, state=c.LINK_PENDING)),
    control("label 0", frame(label=0, body=HS_BODY)),
    control("label 0, hop budget 0", frame(label=0, budget=0, body=HS_BODY)),
    control("label 0, shortest body", frame(label=0, body=BODY[:16])),
    control("label 0, longest body", frame(label=0, body=bytes(c.EVENT_DATA_MAX))),
    dropped("label 0, body too long for an event", frame(label=0, body=bytes(c.EVENT_DATA_MAX + 1)), "DROP_TOO_BIG"),
    control("label 0 under slot 1", frame(label=0, body=HS_BODY, key=K_IN_NEXT), change=SECOND, slot=1),
    control("label 0 even with an entry for it", frame(label=0), change=circuit(0, kind=1, in_link=1, out_link=2)),
    control("local circuit", frame(label=LOCAL, body=HS_BODY), label=LOCAL),
    dropped("ring full", frame(label=0, body=HS_BODY), "DROP_EVENT_FULL", lambda w: w.ring.fill()),
    dropped("end of circuit, no stream", frame(label=END), "DROP_STREAM_DOWN"),
    dropped("end of circuit, stream not up", frame(label=END), "DROP_STREAM_DOWN", circuit(END, stream=9)),
    control(
        "end of circuit in grace: handshake body",
        frame(label=END, body=HS_BODY),
        change=circuit(END, flags=c.CIRCUIT_F_HS_GRACE),
        label=END,
    ),
    dropped("end of circuit in grace: other length", frame(label=END), "DROP_STREAM_DOWN", circuit(END, flags=1)),
]

assert PORT == IN.dport == OUT.dport
