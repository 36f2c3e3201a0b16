# SPDX-License-Identifier: Apache-2.0
"""Inner packets that wait for a stream, bounded per peer and in total."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

PACKETS_PER_PEER: Final = 64
PACKETS_TOTAL: Final = 1024


class PacketQueue:
    """Oldest packets go first when there are too many; `dropped` is called once for each."""

    def __init__(self, dropped: Callable[[], None]) -> None:
        self._dropped = dropped
        self._peers: dict[bytes, deque[bytes]] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def holds(self, peer: bytes) -> bool:
        return peer in self._peers

    def put(self, peer: bytes, packet: bytes) -> None:
        packets = self._peers.setdefault(peer, deque())
        packets.append(packet)
        self._total += 1
        if len(packets) > PACKETS_PER_PEER:
            self._drop_oldest(peer)
        elif self._total > PACKETS_TOTAL:
            self._drop_oldest(max(self._peers, key=lambda node: len(self._peers[node])))

    def take(self, peer: bytes) -> list[bytes]:
        """All of a peer's packets, oldest first."""
        packets = list(self._peers.pop(peer, ()))
        self._total -= len(packets)
        return packets

    def _drop_oldest(self, peer: bytes) -> None:
        self._peers[peer].popleft()
        self._total -= 1
        self._dropped()
