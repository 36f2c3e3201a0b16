# SPDX-License-Identifier: Apache-2.0
"""The end of a circuit in veil_rx: inner packets as they reach veil0, and every way to refuse a stream frame."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.bpf import oracle, streams
from tests.bpf.harness import XDP_DROP, XDP_REDIRECT, Result, World
from tests.bpf.streams import HERE4, HERE6, LINK, PEER, PEER4, PEER6, STREAM, inner4, inner6
from veilnet import contract as c

pytestmark = pytest.mark.root

LABEL = 321
WINDOW = 32 * (c.STREAM_WIN_WORDS - 1)
"""Counters behind the newest that are taken at least."""
ROUTES = {
    f"{PEER4}/32": (PEER, STREAM),
    f"{PEER6}/128": (PEER, STREAM),
    "10.9.3.0/24": (PEER + 1, 0),
    "10.9.4.1/32": (PEER, STREAM),
    f"{HERE4}/32": streams.OWN,
    f"{HERE6}/128": streams.OWN,
}


class Receiver:
    """Sends frames to the end of the circuit; the link's counter goes up by itself."""

    def __init__(self, world: World, fd: int) -> None:
        self.world, self.fd, self.hop = world, fd, 0

    def packet(self, body: bytes) -> bytes:
        payload = oracle.seal(streams.HOP_RX, LABEL, 1, self.hop, body)
        self.hop += 1
        return bytes(oracle.packet(streams.FLOW, payload))

    def raw(self, body: bytes, trailer: bytes = b"") -> tuple[Result, bytes]:
        """The result, and the packet as it was sent."""
        sent = self.packet(body) + trailer
        return self.world.run(self.fd, sent), sent

    def __call__(
        self, inner: bytes, *, counter: int = 0, lane: int = 0, flags: int = 0, pad: int = 0, trailer: bytes = b""
    ) -> Result:
        return self.raw(body(inner, counter=counter, lane=lane, flags=flags, pad=pad), trailer)[0]


def body(inner: bytes, *, counter: int = 0, lane: int = 0, flags: int = 0, pad: int = 0) -> bytes:
    return oracle.seal_stream(streams.RX_KEYS[flags & 1], streams.RX_HP, counter, lane, flags, inner, pad)


@pytest.fixture
def receive(world: World, rx: int) -> Iterator[Receiver]:
    streams.setup(world)
    world.put_circuit(LABEL, kind=c.CIRCUIT_END, in_link=LINK, stream=STREAM)
    with streams.routes(world, ROUTES):
        yield Receiver(world, rx)


def from4(length: int, src: str = PEER4) -> bytes:
    return inner4(length, src=src, dst=HERE4)


def from6(length: int) -> bytes:
    return inner6(length, src=PEER6, dst=HERE6)


def delivered(inner: bytes) -> bytes:
    return streams.ethernet(streams.MAC0, streams.MAC0P, inner)


def test_every_length(world: World, receive: Receiver) -> None:
    count = 0
    for build, lengths in ((from4, range(28, c.INNER_MAX + 1)), (from6, range(48, c.INNER_MAX + 1, 13))):
        for length in lengths:
            inner = build(length)
            done = receive(inner, counter=count)
            assert (done.verdict, done.packet) == (XDP_REDIRECT, delivered(inner)), length
            assert (done.reasons, done.events) == ({"OK_OPEN": 1}, [])
            count += 1
    stream = world.streams[STREAM]
    assert stream.rx_seen
    assert stream.rx_frames == count


@pytest.mark.parametrize("pad", [1, 7, 64, 500, c.INNER_MAX - 100])
def test_padding_in_front(receive: Receiver, pad: int) -> None:
    inner = from4(100)
    assert receive(inner, pad=pad).packet == delivered(inner)


@pytest.mark.parametrize("trailer", [1, 5, 64])
def test_bytes_after_the_ip_packet_are_cut(receive: Receiver, trailer: int) -> None:
    inner = from6(100)
    done = receive(inner, trailer=b"\xee" * trailer)
    assert (done.packet, done.reasons) == (delivered(inner), {"OK_OPEN": 1})


def test_slots(world: World, receive: Receiver) -> None:
    inner = from4(90)
    for slot in (0, 1):
        done = receive(inner, counter=3, flags=slot)
        assert (done.packet, done.reasons) == (delivered(inner), {"OK_OPEN": 1})
    world.streams[STREAM].rx[1].valid = 0
    assert receive(inner, counter=4, flags=1).reasons == {"DROP_STREAM_DOWN": 1}


def test_lanes_have_their_own_window(world: World, receive: Receiver) -> None:
    world.streams[STREAM].lanes = 2
    other = streams.put_stream(world, STREAM + 1, lane=1)
    inner = from4(90)
    for lane in (0, 1):
        assert receive(inner, counter=9, lane=lane).packet == delivered(inner)
        assert receive(inner, counter=9, lane=lane).reasons == {"DROP_STREAM_REPLAY": 1}
    assert receive(inner, counter=10, lane=2).reasons == {"DROP_STREAM_DOWN": 1}
    other.state = c.STREAM_UNSET
    assert receive(inner, counter=10, lane=1).reasons == {"DROP_STREAM_DOWN": 1}


def test_replay_window(receive: Receiver) -> None:
    """A model of the window's promise: never twice, always when less than WINDOW behind the newest."""
    rng, taken, newest, inner = random.Random(8), set(), 0, from4(40)
    for _ in range(1500):
        counter = max(0, newest + rng.choice((1, 1, 2, -1, -3, -40, -WINDOW + 1, -WINDOW, -2 * WINDOW, 900)))
        reasons = receive(inner, counter=counter).reasons
        if counter in taken:
            assert reasons == {"DROP_STREAM_REPLAY": 1}
        elif counter > newest - WINDOW:
            assert reasons == {"OK_OPEN": 1}
        if reasons == {"OK_OPEN": 1}:
            taken.add(counter)
            newest = max(newest, counter)
    assert len(taken) > 300


def test_every_flipped_bit_is_refused(world: World, receive: Receiver) -> None:
    """Whatever breaks in the body, the counter is not taken and nothing is deciphered."""
    good = body(from4(60))
    before = streams.dump(world.streams[STREAM])
    for bit in range(8 * len(good)):
        forged = bytearray(good)
        forged[bit // 8] ^= 1 << bit % 8
        done, sent = receive.raw(bytes(forged))
        assert done.verdict == XDP_DROP
        (reason,) = done.reasons
        unmasked = {"DROP_STREAM_HDR", "DROP_STREAM_DOWN", "OK_CONTROL"}  # a wrong tag unmasks a random header
        allowed = {"DROP_STREAM_AUTH"} | (unmasked if bit // 8 < c.STREAM_LEN else set())
        assert reason in allowed, bit
        assert done.packet == sent
    assert streams.dump(world.streams[STREAM]) == before
    assert receive.raw(good)[0].reasons == {"OK_OPEN": 1}


def test_forged_long_body_is_untouched(receive: Receiver) -> None:
    good = bytearray(body(from4(c.INNER_MAX)))
    good[-1] ^= 1
    done, sent = receive.raw(bytes(good))
    assert (done.verdict, done.reasons, done.packet) == (XDP_DROP, {"DROP_STREAM_AUTH": 1}, sent)


@pytest.mark.parametrize("flags", [2, 3, 0x80, 0xFE])
def test_unknown_flags(receive: Receiver, flags: int) -> None:
    assert receive(from4(60), flags=flags).reasons == {"DROP_STREAM_HDR": 1}


def test_control_lane_goes_to_keyd(receive: Receiver) -> None:
    sent = body(from4(600), lane=c.LANE_CONTROL)
    done, _ = receive.raw(sent)
    assert (done.verdict, done.reasons) == (XDP_DROP, {"OK_CONTROL": 1})
    (event,) = done.events
    assert (event.type, event.label, event.stream, event.link) == (c.EVENT_CONTROL, LABEL, STREAM, LINK)
    assert bytes(event.data)[: event.len] == sent


@pytest.mark.parametrize("change", ["stream unset", "stream 0", "stream out of range", "both slots"])
def test_stream_down(world: World, receive: Receiver, change: str) -> None:
    stream = world.streams[STREAM]
    if change == "stream unset":
        stream.state = c.STREAM_UNSET
    elif change == "both slots":
        stream.rx[0].valid = stream.rx[1].valid = 0
    else:
        world.put_circuit(LABEL, stream=0 if change == "stream 0" else c.STREAMS)
    assert receive(from4(60)).reasons == {"DROP_STREAM_DOWN": 1}


def test_body_lengths(receive: Receiver) -> None:
    """Too short for an IP header, or longer than the contract."""
    for length in range(c.FRAME_MIN - c.FRAME_LEN, c.STREAM_LEN + 20):
        assert receive.raw(random.Random(length).randbytes(length))[0].verdict == XDP_DROP
    short = oracle.seal_stream(streams.RX_KEYS[0], streams.RX_HP, 1, 0, 0, b"\x45" + bytes(18))
    assert receive.raw(short)[0].reasons == {"DROP_STREAM_HDR": 1}
    assert receive(bytes(c.INNER_MAX + 1)).reasons == {"DROP_STREAM_HDR": 1}


BAD_INNER = {
    "shorter than it says": from4(100)[:-1],
    "longer than it says": from4(100) + b"\0",
    "version 0": b"\0" + from4(100)[1:],
    "header of 16 bytes": b"\x44" + from4(100)[1:],
    "IPv6, cut": from6(100)[:-1],
    "IPv6, shorter than its header": from6(100)[:39],
}


@pytest.mark.parametrize("name", BAD_INNER)
def test_bad_inner_packets(receive: Receiver, name: str) -> None:
    done = receive(BAD_INNER[name])
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_BAD": 1})


@pytest.mark.parametrize("source", ["10.9.3.7", "192.0.2.99", HERE4])
def test_foreign_sources(receive: Receiver, source: str) -> None:
    done = receive(from4(100, src=source))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_SRC": 1})


@pytest.mark.parametrize("target", [PEER4, "10.9.3.7", "192.0.2.99", "127.0.0.1", "255.255.255.255"])
def test_foreign_destinations(receive: Receiver, target: str) -> None:
    """A peer reaches this node's overlay addresses only: not its other ones, nor what it would forward to."""
    done = receive(inner4(100, src=PEER4, dst=target))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_NOT_OURS": 1})


@pytest.mark.parametrize("target", [PEER6, "fd00:9::3", "ff02::1", f"::ffff:{HERE4}"])
def test_foreign_ipv6_destinations(receive: Receiver, target: str) -> None:
    done = receive(inner6(100, src=PEER6, dst=target))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_NOT_OURS": 1})


@pytest.mark.parametrize("case", ["random", "stream unset"])
def test_handshake_grace(world: World, receive: Receiver, case: str) -> None:
    """While the flag stands, a body of a handshake's length that does not open goes to keyd as it came."""
    if case == "stream unset":
        world.streams[STREAM].state = c.STREAM_UNSET
    rng = random.Random(9)
    for _ in range(40):
        sent = rng.randbytes(c.HS_BODY_LEN)
        world.put_circuit(LABEL, flags=c.CIRCUIT_F_HS_GRACE)
        done, _ = receive.raw(sent)
        assert done.reasons == {"OK_CONTROL": 1}
        (event,) = done.events
        assert (event.type, bytes(event.data)[: event.len]) == (c.EVENT_CONTROL, sent)
        assert receive.raw(sent[:-1])[0].reasons.keys() <= {
            "DROP_STREAM_AUTH",
            "DROP_STREAM_HDR",
            "DROP_STREAM_DOWN",
            "OK_CONTROL",
        }
        world.put_circuit(LABEL, flags=0)


def test_good_frame_of_a_handshakes_length(world: World, receive: Receiver) -> None:
    world.put_circuit(LABEL, flags=c.CIRCUIT_F_HS_GRACE)
    inner = from4(c.HS_BODY_LEN - c.STREAM_LEN)
    assert receive(inner, counter=1).packet == delivered(inner)
    assert receive(inner, counter=1).reasons == {"DROP_STREAM_REPLAY": 1}


def test_what_seal_makes_open_takes(world: World, receive: Receiver, load_program: Callable[[str], int]) -> None:
    """veil_seal's frame, sent back with the peer's keys in place of ours."""
    stream, link = world.streams[STREAM], world.links[LINK]
    stream.rx_hp[:] = stream.tx_hp[:]
    stream.rx[0].key[:] = stream.tx[0].key[:]
    stream.out_label = LABEL
    link.rx[0].key = link.tx[0].key
    seal = load_program("veil_seal.c")
    for length in (28, 576, c.INNER_MAX):
        inner = inner4(length, src="10.9.4.1", dst=PEER4)
        payload = world.run(seal, streams.from_host(inner)).packet[42:]
        streams.put_route(world, f"{PEER4}/32", streams.OWN)  # now at the peer
        done = world.run(receive.fd, bytes(oracle.packet(streams.FLOW, payload)))
        streams.put_route(world, f"{PEER4}/32", (PEER, STREAM))
        assert (done.packet, done.reasons) == (delivered(inner), {"OK_OPEN": 1})
