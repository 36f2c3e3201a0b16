# SPDX-License-Identifier: Apache-2.0
"""One stream: its record in memory and its key slots in the data plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from veilnet.keyd.circuits import Circuit
from veilnet.keyd.core import Core
from veilnet.keyd.dataplane import IpAddress
from veilnet.keyd.legs import Leg
from veilnet.keyd.liveness import Liveness
from veilnet.keyd.rekey import Rekeying
from veilnet.protocol.networks import IpNetwork
from veilnet.protocol.session import KeysReady, Session

LANE = 0

Done = Callable[[bool], None]


@dataclass(eq=False, slots=True)
class Stream:
    """`carrier`: our own circuit, or the leg that the peer's circuit ends in."""

    index: int
    peer: bytes
    carrier: Circuit | Leg
    session: Session
    budget: int
    since: float
    ready: bool = False
    x_r: bytes = b""
    life: Liveness | None = None
    rekeying: Rekeying | None = None
    seen: tuple[int, int] = (0, 0)
    used: float = 0.0
    closing: int = 0
    """Closes sent; a stream that closes carries nothing new."""
    rtt_ms: float | None = None

    @property
    def initiator(self) -> bool:
        return isinstance(self.carrier, Circuit)


@dataclass(slots=True)
class Demand:
    """A stream that is wanted and not up."""

    since: float
    tries: int = 0
    trying: bool = False
    circuit: Circuit | None = None
    waiters: list[Done] = field(default_factory=list)


class StreamSlots:
    """A stream's key slots, for `Rekeying`."""

    def __init__(self, core: Core, index: int) -> None:
        self._plane, self._index = core.plane, index

    def install(self, keys: KeysReady) -> None:
        self._plane.set_stream_rx(self._index, keys.slot, keys.rx.stream_key(LANE))
        self._plane.set_stream_tx(self._index, keys.slot, keys.tx.stream_key(LANE))

    def select(self, slot: int) -> None:
        if self._plane.stream_stats(self._index).tx_slot != slot:
            self._plane.select_stream_tx(self._index, slot)

    def clear_rx(self, slot: int) -> None:
        self._plane.clear_stream_rx(self._index, slot)

    def heard_on(self, slot: int) -> bool:
        return self._plane.stream_stats(self._index).rx_used[slot]

    def sent(self) -> int:
        stats = self._plane.stream_stats(self._index)
        return stats.tx_counters[stats.tx_slot]


def host_network(address: IpAddress) -> IpNetwork:
    """The one-address network of an overlay address."""
    return IPv4Network(address) if address.version == 4 else IPv6Network(address)
