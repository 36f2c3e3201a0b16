# SPDX-License-Identifier: Apache-2.0
"""One link: its record in memory and its key slots in the data plane."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from veilnet.keyd.core import Core
from veilnet.keyd.dataplane import Addrs, SipKey
from veilnet.keyd.dial import Dial
from veilnet.keyd.liveness import Liveness
from veilnet.keyd.rekey import Rekeying
from veilnet.keyd.state import Link as State
from veilnet.protocol.messages import Message
from veilnet.protocol.session import KeysReady, Session

Waiter = Callable[["Link | None"], None]
Handler = Callable[["Link", Message], None]


@dataclass(eq=False, slots=True)
class Link:
    """One neighbour session. `labels` are those that we handed out on it: a link without any may go."""

    index: int
    peer: bytes
    addrs: Addrs
    initiator: bool
    state: State
    ifindex: int
    mtu: int
    since: float
    session: Session | None = None
    dial: Dial | None = None
    slot: int = 0
    x_r: bytes = b""
    used: float = 0.0
    rtt_ms: float | None = None
    labels: set[int] = field(default_factory=set)
    waiters: list[Waiter] = field(default_factory=list)
    life: Liveness | None = None
    rekeying: Rekeying | None = None


def origin(addrs: Addrs) -> bytes:
    """The outer 5-tuple as `struct veil_addrs` lays it out."""
    parts = (addrs.remote.packed.ljust(16, b"\0"), addrs.local.packed.ljust(16, b"\0"))
    return struct.pack(">16s16sHH", *parts, addrs.rport, addrs.lport) + struct.pack("<I", addrs.remote.version)


class LinkSlots:
    """A link's key slots, for `Rekeying`."""

    def __init__(self, core: Core, index: int) -> None:
        self._plane, self._index = core.plane, index
        self._stale_hint: int | None = None

    def install(self, keys: KeysReady) -> None:
        # RK4 can go by the slot that verified last only if that was not this one before it got its key
        hint = self._plane.link_stats(self._index).rx_hint
        self._stale_hint = hint if hint == keys.slot else None
        self._plane.set_link_rx(self._index, keys.slot, SipKey(keys.rx.mac, keys.rx.enc))
        self._plane.set_link_tx(self._index, keys.slot, SipKey(keys.tx.mac, keys.tx.enc))

    def select(self, slot: int) -> None:
        if self._plane.link_stats(self._index).tx_slot != slot:
            self._plane.select_link_tx(self._index, slot)

    def clear_rx(self, slot: int) -> None:
        self._plane.clear_link_rx(self._index, slot)

    def heard_on(self, slot: int) -> bool:
        hint = self._plane.link_stats(self._index).rx_hint
        if hint != self._stale_hint:
            self._stale_hint = None
        return hint == slot and self._stale_hint is None

    def sent(self) -> int:
        stats = self._plane.link_stats(self._index)
        return stats.tx_counters[stats.tx_slot]
