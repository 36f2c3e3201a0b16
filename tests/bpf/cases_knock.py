# SPDX-License-Identifier: Apache-2.0
"""Handshake datagrams on a direct link: strangers' knocks, and the replies that a pending link waits for."""

from __future__ import annotations

from typing import Any

from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import HS_BODY, IN, KNOCK, PORT, STRANGER, Case, edit, event, packet, sip_key
from tests.bpf.cases_hop import Change, both, link
from veilnet import contract as c

REPLY = o.KnockKey(sip_key("reply").mac, sip_key("reply").enc, sip_key("reply full").mac)
GOOD = o.handshake(KNOCK[0], HS_BODY)
SHORT, LONG = HS_BODY[:-1], HS_BODY + b"\0"


def pending(world: h.World) -> None:
    """Link 1 waits for replies under REPLY; nothing else of it is set."""
    one = world.links[1]
    one.state = c.LINK_PENDING
    one.rx[0].key.mac[:], one.rx[0].key.enc[:], one.rx[0].valid = h.words(REPLY.mac), h.words(REPLY.enc), 1
    one.full[:] = h.words(REPLY.full)


def config(**fields: int) -> Change:
    def change(world: h.World) -> None:
        for name, value in fields.items():
            setattr(world.config, name, value)

    return change


def slot_off(slot: int) -> Change:
    return lambda world: setattr(world.config.knock[slot], "valid", 0)


def seen_before(payload: bytes) -> Change:
    """The knock's tag is remembered."""
    return lambda world: world.put_seen(payload[:8])


def knock(name: str, payload: bytes, slot: int = 0, flow: o.Flow = STRANGER, link_of: int = 0, **more: Any) -> Case:
    raised = event(c.EVENT_KNOCK, payload[16:], flow, slot=slot, link=link_of)
    return Case(name, packet(payload, flow), h.XDP_DROP, "OK_KNOCK", event=raised, **more)


def refused(name: str, payload: bytes, reason: str, flow: o.Flow = STRANGER, **more: Any) -> Case:
    return Case(name, packet(payload, flow), h.XDP_PASS, reason, **more)


def dark(name: str, payload: bytes, reason: str, change: Change = lambda _: None) -> Case:
    return Case(name, packet(payload, STRANGER), h.XDP_DROP, reason, change=both(config(dark=1), change))


def reply(name: str, payload: bytes, **more: Any) -> Case:
    raised = event(c.EVENT_CONTROL, payload[16:], IN, link=1)
    return Case(name, packet(payload), h.XDP_DROP, "OK_CONTROL", event=raised, change=pending, **more)


OTHER_PORT = o.Flow(STRANGER.src, STRANGER.sport, STRANGER.dst, PORT + 1)

CASES = [
    knock("knock, slot 0", GOOD),
    knock("knock, slot 1", o.handshake(KNOCK[1], HS_BODY), slot=1),
    knock("knock, slot 0 off, slot 1 on", o.handshake(KNOCK[1], HS_BODY), slot=1, change=slot_off(0)),
    knock("knock of zeros", o.handshake(KNOCK[0], bytes(c.HS_BODY_LEN))),
    knock("knock from a link's 5-tuple that is up", GOOD, flow=IN, link_of=1),
    knock("knock from a pending link's 5-tuple", GOOD, flow=IN, link_of=1, change=pending),
    knock("dark: knock", GOOD, change=config(dark=1)),
    knock("other knocks were seen", GOOD, change=seen_before(o.handshake(KNOCK[1], HS_BODY))),
    refused("knock, slot not configured", o.handshake(KNOCK[2], HS_BODY), "PASS_KNOCK_TAG"),
    refused("knock, its slot off", GOOD, "PASS_KNOCK_TAG", change=slot_off(0)),
    refused("knock, both slots off", GOOD, "PASS_KNOCK_TAG", change=both(slot_off(0), slot_off(1))),
    refused("random datagram of a knock's length", bytes(range(256)) * 4 + bytes(208), "PASS_KNOCK_TAG"),
    refused("knock of one byte less", o.handshake(KNOCK[0], SHORT), "PASS_NO_LINK"),
    refused("knock of one byte more", o.handshake(KNOCK[0], LONG), "PASS_NO_LINK"),
    refused("knock on another port", GOOD, "PASS_NO_LINK", flow=OTHER_PORT),
    refused("knock port unset", GOOD, "PASS_NO_LINK", change=config(knock_port=0)),
    refused("knock with label 1", o.handshake(KNOCK[0], HS_BODY, label=1), "PASS_KNOCK_BODY"),
    refused("knock with the highest label", o.handshake(KNOCK[0], HS_BODY, label=0xFFFFFF), "PASS_KNOCK_BODY"),
    refused("digest's lowest bit wrong", o.handshake(KNOCK[0], HS_BODY, digest_xor=1), "PASS_KNOCK_BODY"),
    refused("digest's highest bit wrong", o.handshake(KNOCK[0], HS_BODY, digest_xor=1 << 39), "PASS_KNOCK_BODY"),
    refused("body's last byte changed", edit(GOOD, 1231, bytes([GOOD[1231] ^ 1])), "PASS_KNOCK_BODY"),
    refused("body's first unbound byte changed", edit(GOOD, 23, bytes([GOOD[23] ^ 128])), "PASS_KNOCK_BODY"),
    refused("bound byte changed", edit(GOOD, 22, bytes([GOOD[22] ^ 1])), "PASS_KNOCK_TAG"),
    refused(
        "digest under another key",
        o.handshake(o.KnockKey(KNOCK[0].mac, KNOCK[0].enc, KNOCK[1].full), HS_BODY),
        "PASS_KNOCK_BODY",
    ),
    refused("knock seen before", GOOD, "PASS_KNOCK_REPLAY", change=seen_before(GOOD)),
    refused("a link's frame from a stranger", o.seal(sip_key("in"), 0, 1, 1, HS_BODY), "PASS_KNOCK_TAG"),
    dark("dark: knock, wrong tag", o.handshake(KNOCK[2], HS_BODY), "PASS_KNOCK_TAG"),
    dark("dark: knock, wrong digest", o.handshake(KNOCK[0], HS_BODY, digest_xor=2), "PASS_KNOCK_BODY"),
    dark("dark: knock replay", GOOD, "PASS_KNOCK_REPLAY", seen_before(GOOD)),
    refused("known link, wrong tag, knock's length", o.handshake(KNOCK[2], HS_BODY), "PASS_LINK_TAG", flow=IN),
    reply("reply to a pending link", o.handshake(REPLY, HS_BODY)),
    refused("reply to a stranger", o.handshake(REPLY, HS_BODY), "PASS_KNOCK_TAG"),
    refused("reply to a link that is up", o.handshake(REPLY, HS_BODY), "PASS_LINK_TAG", flow=IN),
    refused(
        "pending: wrong digest", o.handshake(REPLY, HS_BODY, digest_xor=4), "PASS_KNOCK_BODY", flow=IN, change=pending
    ),
    refused("pending: label 1", o.handshake(REPLY, HS_BODY, label=1), "PASS_KNOCK_BODY", flow=IN, change=pending),
    refused("pending: wrong tag", o.handshake(KNOCK[2], HS_BODY), "PASS_LINK_TAG", flow=IN, change=pending),
    refused("pending: other length", o.handshake(REPLY, SHORT), "PASS_LINK_TAG", flow=IN, change=pending),
    refused("pending: key not valid", o.handshake(REPLY, HS_BODY), "PASS_LINK_TAG", flow=IN, change=link(1, state=1)),
    refused(
        "pending: reply seen before",
        o.handshake(REPLY, HS_BODY),
        "PASS_KNOCK_REPLAY",
        flow=IN,
        change=both(pending, seen_before(o.handshake(REPLY, HS_BODY))),
    ),
    Case(
        "ring full: knock",
        packet(GOOD, STRANGER),
        h.XDP_DROP,
        "DROP_EVENT_FULL",
        change=lambda world: world.ring.fill(),
    ),
]
