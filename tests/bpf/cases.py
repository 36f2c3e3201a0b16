# SPDX-License-Identifier: Apache-2.0
"""A packet case: maps, one packet in, what must come out. The tables stand in `cases_*.py`.

The world of every case: link 1 (flow IN) is up and receives under K_IN; link 2 (flow OUT) is up and sends under K_OUT;
labels FORWARD, LOCAL and END are valid on link 1. `change` then makes the world the case's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any

from tests.bpf import harness as h
from tests.bpf import oracle as o
from veilnet import contract as c

PORT = 51820
IN = o.Flow("198.51.100.1", 40001, "192.0.2.9", PORT)
OUT = o.Flow("203.0.113.2", 40002, "192.0.2.9", PORT)
STRANGER = o.Flow("203.0.113.77", 33333, "192.0.2.9", PORT)
FORWARD, LOCAL, END, OUT_LABEL = 0x1234, 0x2345, 0x3456, 0xABCDEF
EGRESS = 7
"""A device other than the one frames come in on: a redirect, not XDP_TX."""
BODY = bytes(range(256))[:100]
HS_BODY = (sha256(b"body").digest() * 38)[: c.HS_BODY_LEN]


def _bytes(name: str, size: int = 16) -> bytes:
    return sha256(name.encode()).digest()[:size]


def sip_key(name: str) -> o.SipKey:
    return o.SipKey(_bytes(name + " mac"), _bytes(name + " enc"))


K_IN, K_IN_NEXT, K_OUT, K_OUT_NEXT, K_WRONG = (sip_key(n) for n in ("in", "in next", "out", "out next", "wrong"))
KNOCK = tuple(o.KnockKey(_bytes(f"k{i} mac"), _bytes(f"k{i} enc"), _bytes(f"k{i} full")) for i in range(3))
"""Slots 0 and 1 as configured, and one that is not."""


def nothing(_world: h.World) -> None:
    """The world as it is."""


@dataclass(frozen=True)
class Case:
    """`out`: the packet after the run; None means byte for byte as it came in."""

    name: str
    packet: bytes
    verdict: int
    reason: str
    out: bytes | None = None
    change: Callable[[h.World], object] = nothing
    event: dict[str, Any] | None = None
    """Fields of the one event that must be raised (`data`: bytes); None: no event."""


def base(world: h.World) -> None:
    """The world that `change` starts from."""
    config = world.config
    config.bucket_seed, config.knock_port = 0x0123456789ABCDEF, PORT
    world.put_knock(0, KNOCK[0])
    world.put_knock(1, KNOCK[1])
    world.put_link(1, IN, rx=(K_IN, None), tx=(sip_key("in tx"), None))
    world.put_link(2, OUT, rx=(sip_key("out rx"), None), tx=(K_OUT, None))
    world.put_circuit(FORWARD, kind=c.CIRCUIT_FORWARD, in_link=1, out_link=2, out_label=OUT_LABEL)
    world.put_circuit(LOCAL, kind=c.CIRCUIT_LOCAL, in_link=1)
    world.put_circuit(END, kind=c.CIRCUIT_END, in_link=1)


def set_link(world: h.World, index: int, **fields: Any) -> None:
    """Write single fields of a link."""
    for name, value in fields.items():
        setattr(world.links[index], name, value)


def frame(label: int = FORWARD, budget: int = 9, counter: int = 5, body: bytes = BODY, key: o.SipKey = K_IN) -> bytes:
    return o.seal(key, label, budget, counter, body)


def packet(payload: bytes | None = None, flow: o.Flow = IN, **ip: Any) -> bytes:
    return bytes(o.packet(flow, frame() if payload is None else payload, **ip))


_HEADERS = bytes(o.packet(IN, b""))[:42]


def wire(payload: bytes) -> bytes:
    """As `packet(payload)`, without checksums and a hundred times as fast, for tests of many frames."""
    size = len(payload)
    ip = _HEADERS[:16] + (size + 28).to_bytes(2, "big") + _HEADERS[18:38]
    return ip + (size + 8).to_bytes(2, "big") + _HEADERS[40:] + payload


def forwarded(
    *,
    link: int = 2,
    label: int = OUT_LABEL,
    budget: int = 8,
    counter: int = 0,
    body: bytes = BODY,
    key: o.SipKey = K_OUT,
) -> bytes:
    """The relayed packet: whole, from the outer Ethernet header on."""
    payload = o.seal(key, label, budget, counter, body)
    return o.sent(OUT.back(), payload, o.mac_bytes(link, 1), o.mac_bytes(link, 2))


def edit(data: bytes, at: int, new: bytes) -> bytes:
    """`data` with `new` written over it at offset `at`."""
    return data[:at] + new + data[at + len(new) :]


def event(kind: int, data: bytes, flow: o.Flow = IN, **fields: int) -> dict[str, Any]:
    """An event as keyd must find it."""
    whole: dict[str, Any] = dict.fromkeys(("link", "label", "stream", "peer", "slot"), 0)
    whole |= {"type": kind, "data": data, "flow": flow, "ifindex": h.TEST_IFINDEX} | fields
    return whole


def seen(got: c.Event) -> dict[str, Any]:
    """A raised event in the form of `event`."""
    flow = o.Flow(
        str(IPv4Address(bytes(got.addrs.remote)[:4])),
        got.addrs.rport,
        str(IPv4Address(bytes(got.addrs.local)[:4])),
        got.addrs.lport,
    )
    assert (got.addrs.family, bytes(got.addrs.remote)[4:], bytes(got.addrs.local)[4:]) == (4, bytes(12), bytes(12))
    names = ("type", "link", "label", "stream", "peer", "slot", "ifindex")
    return {name: getattr(got, name) for name in names} | {"data": bytes(got.data)[: got.len], "flow": flow}


def check(world: h.World, fd: int, case: Case) -> None:
    """Run one case and compare verdict, whole output, counters and events."""
    base(world)
    case.change(world)
    result = world.run(fd, case.packet)
    assert result.reasons == {case.reason: 1}
    assert result.verdict == case.verdict
    assert result.packet == (case.packet if case.out is None else case.out)
    assert [seen(e) for e in result.events] == ([] if case.event is None else [case.event])
