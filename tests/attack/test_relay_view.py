# SPDX-License-Identifier: Apache-2.0
"""What a relay, a member that holds the whole directory, can find out about the circuits that pass through it."""

from __future__ import annotations

import pytest

from tests.keyd.net import Net, line3
from veilnet.protocol.errors import RemoteError
from veilnet.protocol.knock import KnockSchedule, open_body
from veilnet.protocol.transcript import parse_kind


def forwarded(net: Net, name: str, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Bodies that the node of this name relays from now on."""
    plane, seen = net.nodes[name].plane, []
    emit = plane._emit

    def recording(link: int, label: int, budget: int, body: bytes, reason: str) -> object:
        seen.append(body)
        return emit(link, label, budget, body, reason)

    monkeypatch.setattr(plane, "_emit", recording)
    return seen


def opens(schedule: KnockSchedule, body: bytes, now: float) -> bool:
    for slot in KnockSchedule.slots_at(now):
        for keys in (schedule.knock_keys(slot), schedule.reply_keys(slot)):
            try:
                parse_kind(open_body(keys, body))
            except RemoteError:
                continue
            if open_body(keys, body)[0] != 3:  # noise passes for a reply A once in 256 times
                return True
    return False


@pytest.mark.parametrize("relay", ["g1", "g2", "g3"])
def test_handshakes_through_a_relay_do_not_name_their_target(relay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every member knows every knock seed, so nothing that a relay passes on may depend on the target's."""
    net = line3()
    bodies = forwarded(net, relay, monkeypatch)
    net.send("a", "b", 1)
    assert net.run(30, lambda: net.received("b") == [1])
    handshakes = [body for body in bodies if len(body) == 1216]
    assert handshakes
    found = {
        node.name
        for body in handshakes
        for node in net.nodes.values()
        if opens(KnockSchedule(node.view.knock_seed), body, net.now)
    }
    assert found == set()
