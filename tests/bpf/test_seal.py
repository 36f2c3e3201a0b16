# SPDX-License-Identifier: Apache-2.0
"""veil_seal: whole output packets against scapy, `cryptography` and `siphash24`, and every way to drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bpf import oracle, streams
from tests.bpf.harness import XDP_DROP, XDP_PASS, XDP_REDIRECT, World
from tests.bpf.streams import LABEL, LINK, PEER, STREAM, from_host, inner4, inner6
from veilnet import contract as c

pytestmark = pytest.mark.root

ROUTES = {"10.9.0.0/24": (PEER, STREAM), "fd00:9::/64": (PEER, STREAM), "10.9.1.0/24": (PEER + 1, 0)}
MIN4, MIN6 = 28, 48


@pytest.fixture
def seal(world: World, load_program: Callable[[str], int]) -> Iterator[int]:
    streams.setup(world)
    with streams.routes(world, ROUTES):
        yield load_program("veil_seal.c")


def frame(inner: bytes, *, counter: int = 0, hop: int = 0, lane: int = 0, slot: int = 0) -> bytes:
    """UDP payload that sealing `inner` has to give."""
    body = oracle.seal_stream(streams.TX_KEYS[slot], streams.TX_HP, counter, lane, slot, inner)
    return oracle.seal(streams.HOP_TX, LABEL, streams.BUDGET, hop, body)


def packet(payload: bytes) -> bytes:
    return oracle.sent(streams.FLOW.back(), payload, oracle.mac_bytes(LINK, 1), oracle.mac_bytes(LINK, 2))


def test_every_length(world: World, seal: int) -> None:
    count = 0
    for build, shortest in ((inner4, MIN4), (inner6, MIN6)):
        for length in range(shortest, c.INNER_MAX + 1, 1 if build is inner4 else 13):
            inner = build(length)
            done = world.run(seal, from_host(inner))
            want = packet(frame(inner, counter=count, hop=count))
            assert (done.verdict, done.packet) == (XDP_REDIRECT, want), length
            assert done.reasons == {"OK_SEAL": 1}
            assert not done.events
            count += 1
    stream, link = world.streams[STREAM], world.links[LINK]
    assert stream.tx[0].counter == link.tx[0].counter == count
    assert stream.tx_seen and link.tx_seen


@pytest.mark.parametrize("pad", [1, 18, 40])
def test_ethernet_padding_is_not_sealed(world: World, seal: int, pad: int) -> None:
    inner = inner4(MIN4)
    assert world.run(seal, from_host(inner, pad=pad)).packet == packet(frame(inner))


def test_slots_lanes_and_counters(world: World, seal: int) -> None:
    stream = world.streams[STREAM]
    stream.tx_slot, stream.lane, stream.tx[1].counter = 1, 3, 0x01020304
    world.links[LINK].tx[0].counter = 0x0A0B0C0D
    inner = inner6(100)
    done = world.run(seal, from_host(inner))
    assert done.packet == packet(frame(inner, counter=0x01020304, hop=0x0A0B0C0D, lane=3, slot=1))
    assert (stream.tx[0].counter, stream.tx[1].counter) == (0, 0x01020305)


def test_link_slot(world: World, seal: int) -> None:
    link = world.links[LINK]
    link.tx[1], link.tx_slot = link.tx[0], 1
    link.tx[0].key.mac[0] ^= 1
    inner = inner4(60)
    assert world.run(seal, from_host(inner)).packet == packet(frame(inner))
    assert (link.tx[0].counter, link.tx[1].counter) == (0, 1)


def test_emit_by_tc_marks_the_frame(world: World, seal: int) -> None:
    world.config.emit = c.EMIT_TC
    world.links[LINK].l2.ifindex = 0x01020304
    inner = inner4(300)
    done = world.run(seal, from_host(inner))
    mark = streams.MAC0P + b"\x02\x00" + (0x01020304).to_bytes(4, "little")
    assert (done.verdict, done.reasons) == (XDP_PASS, {"OK_SEAL_TC": 1})
    assert done.packet == mark + packet(frame(inner))[12:]


def test_longest_prefix_wins(world: World, seal: int) -> None:
    streams.put_stream(world, STREAM + 1).out_label = 77
    with streams.routes(world, {"10.9.0.2/32": (PEER, STREAM + 1)}):
        assert world.run(seal, from_host(inner4(60))).reasons == {"OK_SEAL": 1}
        assert world.streams[STREAM + 1].tx[0].counter == 1
        assert world.streams[STREAM].tx[0].counter == 0


@pytest.mark.parametrize("case", ["no stream", "stream down"])
def test_waits_for_a_stream(world: World, seal: int, case: str) -> None:
    inner = inner4(700, dst="10.9.1.9" if case == "no stream" else streams.PEER4)
    if case == "stream down":
        world.streams[STREAM].state = c.STREAM_UNSET
    done = world.run(seal, from_host(inner, pad=0))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"OK_WAIT": 1})
    (event,) = done.events
    assert (event.type, event.len, bytes(event.data)[: event.len]) == (c.EVENT_NO_STREAM, 700, inner)
    assert (event.peer, event.stream) == ((PEER + 1, 0) if case == "no stream" else (PEER, STREAM))
    assert (event.link, event.label, event.slot) == (0, 0, 0)
    assert bytes(event.addrs) == bytes(len(bytes(event.addrs)))


def test_full_event_ring(world: World, seal: int) -> None:
    world.ring.fill()
    done = world.run(seal, from_host(inner4(60, dst="10.9.1.9")))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_EVENT_FULL": 1})


def _stream(**fields: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world.streams[STREAM], name, value)

    return change


def _link(**fields: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world.links[LINK], name, value)

    return change


GOOD = inner4(200)
DROPS: dict[str, tuple[str, Callable[[World], None], bytes]] = {
    "no key in the slot": ("DROP_STREAM_DOWN", _stream(tx_slot=1), from_host(GOOD)),
    "link index 0": ("DROP_LINK_DOWN", _stream(out_link=0), from_host(GOOD)),
    "link index too high": ("DROP_LINK_DOWN", _stream(out_link=c.LINKS), from_host(GOOD)),
    "link unset": ("DROP_LINK_DOWN", _link(state=c.LINK_UNSET), from_host(GOOD)),
    "link pending": ("DROP_LINK_DOWN", _link(state=c.LINK_PENDING), from_host(GOOD)),
    "one byte over the link's MTU": ("DROP_TOO_BIG", _link(mtu=200 + c.OVERHEAD4 - 1), from_host(GOOD)),
    "one byte over the overlay MTU": (
        "DROP_INNER_TOO_BIG",
        lambda world: setattr(world.config, "inner_mtu", 199),
        from_host(GOOD),
    ),
    "longer than the contract": (
        "DROP_INNER_TOO_BIG",
        lambda world: setattr(world.config, "inner_mtu", 9000),
        from_host(inner4(c.INNER_MAX + 1)),
    ),
    "no next hop": ("DROP_NO_ROUTE", lambda world: setattr(world.links[LINK].l2, "stamp", 0), from_host(GOOD)),
    "link counter at its limit": (
        "DROP_EXHAUSTED",
        lambda world: setattr(world.links[LINK].tx[0], "counter", c.COUNTER_LIMIT),
        from_host(GOOD),
    ),
    "stream counter at its limit": (
        "DROP_EXHAUSTED",
        lambda world: setattr(world.streams[STREAM].tx[0], "counter", c.COUNTER_LIMIT),
        from_host(GOOD),
    ),
    "stream counter beyond 32 bits": (
        "DROP_EXHAUSTED",
        lambda world: setattr(world.streams[STREAM].tx[0], "counter", 1 << 32),
        from_host(GOOD),
    ),
    "no route, IPv4": ("DROP_INNER_DST", lambda _: None, from_host(inner4(60, dst="10.9.2.1"))),
    "no route, IPv6": ("DROP_INNER_DST", lambda _: None, from_host(inner6(60, dst="fd00:a::1"))),
    "IPv4-mapped address in IPv6 is no way in": (
        "DROP_INNER_DST",
        lambda _: None,
        from_host(inner6(60, dst="::fffe:10.9.0.2")),
    ),
    "ARP": ("DROP_INNER_NOT_IP", lambda _: None, from_host(GOOD)[:12] + b"\x08\x06" + bytes(46)),
    "IPv6 under IPv4's type": ("DROP_INNER_NOT_IP", lambda _: None, from_host(GOOD)[:12] + b"\x08\x00" + inner6(60)),
    "IPv4 under IPv6's type": ("DROP_INNER_NOT_IP", lambda _: None, from_host(GOOD)[:12] + b"\x86\xdd" + GOOD),
    "version 5": ("DROP_INNER_NOT_IP", lambda _: None, from_host(b"\x55" + GOOD[1:])[:14] + b"\x55" + GOOD[1:]),
    "header of 16 bytes": ("DROP_INNER_NOT_IP", lambda _: None, from_host(b"\x44" + GOOD[1:])),
    "total length below its header": ("DROP_INNER_NOT_IP", lambda _: None, from_host(GOOD[:2] + b"\0\x13" + GOOD[4:])),
    "VLAN": ("DROP_INNER_NOT_IP", lambda _: None, from_host(GOOD)[:12] + b"\x81\0\0\x05\x08\0" + GOOD),
}


@pytest.mark.parametrize("name", DROPS)
def test_drops(world: World, seal: int, name: str) -> None:
    reason, change, sent = DROPS[name]
    if name == "no key in the slot":
        world.streams[STREAM].tx[1].valid = 0
    change(world)
    done = world.run(seal, sent)
    assert (done.verdict, done.reasons, done.events) == (XDP_DROP, {reason: 1}, [])


@pytest.mark.parametrize("whole", [GOOD, inner6(90)])
def test_truncated_packets_never_leave(world: World, seal: int, whole: bytes) -> None:
    packet_ = from_host(whole)
    for length in range(14, len(packet_)):
        done = world.run(seal, packet_[:length])
        assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_NOT_IP": 1}), length
    assert world.streams[STREAM].tx[0].counter == world.links[LINK].tx[0].counter == 0


def test_last_counters_are_used(world: World, seal: int) -> None:
    for side in (world.streams[STREAM], world.links[LINK]):
        side.tx[0].counter = c.COUNTER_LIMIT - 1
    done = world.run(seal, from_host(GOOD))
    last = c.COUNTER_LIMIT - 1
    assert done.packet == packet(frame(GOOD, counter=last, hop=last))
    assert world.run(seal, from_host(GOOD)).reasons == {"DROP_EXHAUSTED": 1}


def test_frame_as_long_as_the_link_allows(world: World, seal: int) -> None:
    world.links[LINK].mtu, world.config.inner_mtu = 200 + c.OVERHEAD4, 200
    assert world.run(seal, from_host(GOOD)).packet == packet(frame(GOOD))


def test_without_configuration(world: World, seal: int) -> None:
    """Zeroed maps let nothing out."""
    world.config_map.wipe()
    done = world.run(seal, from_host(GOOD))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_TOO_BIG": 1})
