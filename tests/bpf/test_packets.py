# SPDX-License-Identifier: Apache-2.0
"""veil_rx, packet by packet: verdict, whole output, exactly one reason counted, events."""

from __future__ import annotations

import pytest

from tests.bpf import cases, cases_hop, cases_knock, cases_parse
from tests.bpf import harness as h
from tests.bpf import oracle as o
from tests.bpf.cases import Case, base, check, frame, packet
from veilnet import contract as c

pytestmark = pytest.mark.root
ALL = [*cases_parse.CASES, *cases_hop.CASES, *cases_knock.CASES]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_case(world: h.World, rx: int, case: Case) -> None:
    check(world, rx, case)


def test_case_names_are_unique() -> None:
    assert len({case.name for case in ALL}) == len(ALL) >= 60


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("reason", Case("", packet(), h.XDP_TX, "OK_OPEN", out=cases.forwarded())),
        ("verdict", Case("", packet(), h.XDP_REDIRECT, "OK_FORWARD", out=cases.forwarded())),
        ("byte", Case("", packet(), h.XDP_TX, "OK_FORWARD", out=cases.forwarded(counter=1))),
        ("event", Case("", packet(), h.XDP_TX, "OK_FORWARD", out=cases.forwarded(), event={})),
    ],
)
def test_a_wrong_case_fails(world: h.World, rx: int, name: str, wrong: Case) -> None:
    with pytest.raises(AssertionError):
        check(world, rx, wrong)


@pytest.mark.parametrize("length", range(14, len(packet())))
def test_truncated(world: h.World, rx: int, length: int) -> None:
    check(world, rx, Case("", packet()[:length], h.XDP_PASS, "PASS_TRUNCATED"))


@pytest.mark.parametrize("bit", range(8 * (c.FRAME_LEN + c.BIND_LEN)))
def test_flipped_bit(world: h.World, rx: int, bit: int) -> None:
    payload = bytearray(frame())
    payload[bit // 8] ^= 1 << bit % 8
    check(world, rx, Case("", packet(bytes(payload)), h.XDP_PASS, "PASS_LINK_TAG"))


@pytest.mark.parametrize("bit", range(8 * (c.FRAME_LEN + c.BIND_LEN)))
def test_flipped_bit_of_a_knock(world: h.World, rx: int, bit: int) -> None:
    payload = bytearray(o.handshake(cases.KNOCK[0], cases.HS_BODY))
    payload[bit // 8] ^= 1 << bit % 8
    check(world, rx, Case("", packet(bytes(payload), cases.STRANGER), h.XDP_PASS, "PASS_KNOCK_TAG"))


def test_unbound_body_is_carried_unchanged(world: h.World, rx: int) -> None:
    """The hop tag covers 7 bytes; what lies behind is the stream's own business."""
    body = bytearray(cases.BODY)
    body[7] ^= 0xFF
    payload = frame()[: c.FRAME_LEN] + bytes(body)
    check(world, rx, Case("", packet(payload), h.XDP_TX, "OK_FORWARD", out=cases.forwarded(body=bytes(body))))


def test_frame_is_taken_once(world: h.World, rx: int) -> None:
    base(world)
    assert world.run(rx, packet()).reasons == {"OK_FORWARD": 1}
    again = world.run(rx, packet())
    assert (again.verdict, again.packet, again.reasons) == (h.XDP_PASS, packet(), {"PASS_LINK_REPLAY": 1})


def test_knock_is_taken_once(world: h.World, rx: int) -> None:
    knock = packet(o.handshake(cases.KNOCK[0], cases.HS_BODY), cases.STRANGER)
    base(world)
    assert world.run(rx, knock).reasons == {"OK_KNOCK": 1}
    again = world.run(rx, knock)
    assert (again.verdict, again.packet, again.reasons) == (h.XDP_PASS, knock, {"PASS_KNOCK_REPLAY": 1})


def test_refused_frame_costs_no_counter(world: h.World, rx: int) -> None:
    """A forgery with a high counter must not move the window; a frame that can't go on must not use one up."""
    base(world)
    forged = packet(frame(counter=1 << 20, key=cases.K_WRONG))
    assert world.run(rx, forged).reasons == {"PASS_LINK_TAG": 1}
    assert not any(world.links[1].win[0])
    assert world.run(rx, packet(frame(budget=0, counter=1))).reasons == {"DROP_BUDGET": 1}
    assert world.links[2].tx[0].counter == 0


def test_hint_follows_the_slot_that_verified(world: h.World, rx: int) -> None:
    base(world)
    cases_hop.rx_key(1, cases.K_IN_NEXT)(world)
    hints = []
    for number, key in enumerate((cases.K_IN, cases.K_IN_NEXT, cases.K_IN_NEXT, cases.K_IN, cases.K_WRONG)):
        world.run(rx, packet(frame(counter=number, key=key)))
        hints.append(world.links[1].rx_hint)
    assert hints == [0, 1, 1, 0, 0]


def test_liveness_fields(world: h.World, rx: int) -> None:
    base(world)
    world.run(rx, packet(frame(key=cases.K_WRONG)))
    assert (world.links[1].rx_seen, world.links[1].rx_frames, world.circuits[cases.FORWARD].seen) == (0, 0, 0)
    world.run(rx, packet(frame(counter=1)))
    world.run(rx, packet(frame(counter=2)))
    one, two, circuit = world.links[1], world.links[2], world.circuits[cases.FORWARD]
    assert one.rx_seen > 0
    assert two.tx_seen > 0
    assert circuit.seen > 0
    assert (one.rx_frames, one.tx_seen, two.rx_frames, circuit.frames, two.tx[0].counter) == (2, 0, 0, 2, 2)
