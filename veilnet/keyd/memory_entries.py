# SPDX-License-Identifier: Apache-2.0
"""What the data plane in Python holds, and what an input to it leads to."""

from __future__ import annotations

from dataclasses import dataclass, field

from veilnet import contract as c
from veilnet.keyd.dataplane import Addrs, SipKey
from veilnet.protocol.frame import ReplayWindow


@dataclass(frozen=True, slots=True)
class Knock:
    addrs: Addrs
    slot: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Control:
    link: int
    label: int
    stream: int
    body: bytes


@dataclass(frozen=True, slots=True)
class NoStream:
    peer: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class Emit:
    addrs: Addrs
    payload: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    packet: bytes


Output = Knock | Control | NoStream | Emit | Deliver


@dataclass(slots=True)
class Rx:
    key: SipKey | bytes | None = None
    window: ReplayWindow | None = None

    @property
    def used(self) -> bool:
        return self.window is not None and self.window.used


@dataclass(slots=True)
class Tx:
    key: SipKey | bytes | None = None
    counter: int = 0


@dataclass(slots=True)
class LinkEntry:
    addrs: Addrs | None = None
    state: int = c.LINK_UNSET
    ifindex: int = 0
    mtu: int = 0
    full: bytes | None = None
    rx: list[Rx] = field(default_factory=lambda: [Rx(), Rx()])
    tx: list[Tx] = field(default_factory=lambda: [Tx(), Tx()])
    tx_slot: int = 0
    rx_hint: int = 0
    rx_seen: int = 0
    tx_seen: int = 0
    rx_frames: int = 0


@dataclass(slots=True)
class StreamEntry:
    state: int = c.STREAM_UNSET
    peer: int = 0
    out_link: int = 0
    out_label: int = 0
    budget: int = 0
    rx_hp: bytes = b""
    tx_hp: bytes = b""
    rx: list[Rx] = field(default_factory=lambda: [Rx(), Rx()])
    tx: list[Tx] = field(default_factory=lambda: [Tx(), Tx()])
    tx_slot: int = 0
    rx_seen: int = 0
    tx_seen: int = 0
    rx_frames: int = 0
