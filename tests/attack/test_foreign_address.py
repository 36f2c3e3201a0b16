# SPDX-License-Identifier: Apache-2.0
"""Knocks that reach this host's NIC but are addressed to another: a router, a mirrored port, a broadcast."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.keyd.net import KNOCK_PORT, pair
from veilnet.keyd.dataplane import Addrs
from veilnet.protocol.handshake import Mode
from veilnet.protocol.knock import KnockSchedule, seal_body


@pytest.mark.parametrize("local", ["203.0.113.9", "10.0.0.3", "255.255.255.255"])
def test_nothing_is_sent_from_an_address_that_is_not_ours(local: str) -> None:
    net = pair()
    node, target = net.nodes["a"], net.nodes["b"]
    initiator = node.engine.peers.initiator(Mode.LINK, target.view.node_id)
    assert initiator is not None
    slot = KnockSchedule.slot_of(net.now)
    keys = KnockSchedule(target.view.knock_seed).knock_keys(slot)
    index = target.engine._knock_slots.index(slot)
    for hello in initiator.hellos():
        body = seal_body(keys, hello, node.rng.randbytes)
        for address, sends in ((IPv4Address(local), 0), (target.underlay.nics[0].interface.ip, 1)):
            addrs = Addrs(IPv4Address("10.0.0.1"), 40000, address, KNOCK_PORT)
            assert len(target.engine.on_knock(addrs, index, body, net.now)) == sends
