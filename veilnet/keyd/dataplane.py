# SPDX-License-Identifier: Apache-2.0
"""What keyd may do to the data plane: one Protocol, two implementations.

`veilnet.keyd.bpf_plane.BpfPlane` writes the pinned, memory-mapped BPF maps; `veilnet.keyd.memory_plane.MemoryPlane` is
a data plane in Python for tests without root, which seals and opens frames with `veilnet.protocol.frame`.
Indices: link 1..VEIL_LINKS-1, label 1..VEIL_LABELS-1, stream 1..VEIL_STREAMS-1; 0 is "none". Times `*_seen` are opaque
and only ever compared for change. Every method is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from veilnet.protocol.errors import LocalError
from veilnet.protocol.networks import IpNetwork

IpAddress = IPv4Address | IPv6Address


class SealRefusedError(LocalError):
    """A frame can't be sealed: the link is not up, or its counter is at its limit."""


@dataclass(frozen=True, slots=True)
class Addrs:
    """Outer 5-tuple as this node sees it (`struct veil_addrs`)."""

    remote: IpAddress
    rport: int
    local: IpAddress
    lport: int


@dataclass(frozen=True, slots=True)
class SipKey:
    """`struct veil_sip_key`: 16 bytes each."""

    mac: bytes
    enc: bytes


@dataclass(frozen=True, slots=True)
class KnockKey:
    """`struct veil_knock_key`: 16 bytes each."""

    mac: bytes
    enc: bytes
    full: bytes


@dataclass(frozen=True, slots=True)
class Circuit:
    """`struct veil_circuit` without what BPF writes; `kind` is VEIL_CIRCUIT_*."""

    kind: int
    in_link: int
    out_link: int = 0
    out_label: int = 0
    stream: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class LinkStats:
    state: int
    rx_seen: int
    tx_seen: int
    rx_frames: int
    rx_hint: int
    tx_slot: int
    tx_counters: tuple[int, int]


@dataclass(frozen=True, slots=True)
class StreamStats:
    state: int
    rx_seen: int
    tx_seen: int
    rx_frames: int
    tx_slot: int
    tx_counters: tuple[int, int]
    rx_used: tuple[bool, bool]
    """Per slot: at least one frame has verified under it (its replay window is not empty)."""


class DataPlane(Protocol):
    # links: `put_link` writes addresses and state last; keys are set before a link goes UP
    def put_link(
        self, link: int, addrs: Addrs, *, state: int, ifindex: int, mtu: int, full: bytes | None = None
    ) -> None: ...

    def set_link_rx(self, link: int, slot: int, key: SipKey) -> None:
        """Zero the slot's replay window, write the key, then make it valid."""

    def clear_link_rx(self, link: int, slot: int) -> None: ...
    def set_link_tx(self, link: int, slot: int, key: SipKey) -> None:
        """Write key and counter 0 into a slot that is not selected."""

    def select_link_tx(self, link: int, slot: int) -> None: ...
    def remove_link(self, link: int) -> None:
        """Take the 5-tuple out of the look-up, then wipe the entry."""

    def link_stats(self, link: int) -> LinkStats: ...
    def link_addrs(self, link: int) -> Addrs | None: ...

    # circuits
    def put_circuit(self, label: int, circuit: Circuit) -> None: ...
    def remove_circuit(self, label: int) -> None: ...
    def circuit(self, label: int) -> Circuit | None: ...
    def circuit_seen(self, label: int) -> int: ...

    # streams
    def put_stream(
        self, stream: int, *, peer: int, out_link: int, out_label: int, budget: int, rx_hp: bytes, tx_hp: bytes
    ) -> None:
        """Write everything but keys and set the state UP."""

    def set_stream_rx(self, stream: int, slot: int, key: bytes) -> None: ...
    def clear_stream_rx(self, stream: int, slot: int) -> None: ...
    def set_stream_tx(self, stream: int, slot: int, key: bytes) -> None: ...
    def select_stream_tx(self, stream: int, slot: int) -> None: ...
    def remove_stream(self, stream: int) -> None: ...
    def stream_stats(self, stream: int) -> StreamStats: ...

    # overlay routes, networks behind Confluxes, knock keys
    def put_route(self, network: IpNetwork, *, peer: int, stream: int) -> None: ...
    def remove_route(self, network: IpNetwork) -> None: ...
    def routes(self) -> dict[IpNetwork, tuple[int, int]]:
        """network → (peer, stream)."""

    def put_network(self, scope: int, network: IpNetwork, *, peer: int, stream: int) -> None:
        """An entry of the table of networks, `scope` as in bpf/contract.h."""

    def remove_network(self, scope: int, network: IpNetwork) -> None: ...
    def networks(self) -> dict[tuple[int, IpNetwork], tuple[int, int]]:
        """(scope, network) → (peer, stream)."""

    def set_knock(self, index: int, key: KnockKey | None) -> None:
        """Index 0 or 1 of `veil_config.knock`."""

    # used indices, for reconciliation after a restart
    def used_links(self) -> list[int]: ...
    def used_labels(self) -> list[int]: ...
    def used_streams(self) -> list[int]: ...

    # keyd's own frames
    def seal(self, link: int, label: int, budget: int, body: bytes) -> bytes:
        """UDP payload: frame header under the link's selected slot and next counter, then `body`. SealRefusedError."""

    def set_redirect(self, on: bool) -> None:
        """Sealed data leaves by XDP redirect (`veil_config.emit`), else by TC."""

    # sessions kept over a restart of keyd (`struct veil_state`)
    def save_state(self, kind: int, index: int, data: bytes) -> None: ...
    def load_states(self) -> dict[tuple[int, int], bytes]: ...
    def drop_state(self, kind: int, index: int) -> None: ...

    # counters: reason name → count, names as in contract.REASONS
    def reasons(self) -> dict[str, int]: ...
