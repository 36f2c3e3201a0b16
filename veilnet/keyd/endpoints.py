# SPDX-License-Identifier: Apache-2.0
"""From where to where a link to a peer is tried."""

from __future__ import annotations

from collections.abc import Container

from veilnet.keyd.core import Core
from veilnet.keyd.dataplane import Addrs

EPHEMERAL_PORTS = (32768, 60999)


class Endpoints:
    """The peer's endpoints in turn, those in an attached network first; a random source port (no socket has it)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turn: dict[bytes, int] = {}

    def choose(self, peer: bytes, taken: Container[Addrs]) -> Addrs | None:
        """None: the directory names no endpoint that an attached network leads to."""
        node, underlay = self._core.node(peer), self._core.underlay
        if node is None:
            return None
        reach = [(ip, port, nic) for ip, port in node.endpoints if (nic := underlay.nic_to(ip)) is not None]
        reach.sort(key=lambda item: item[0] not in item[2].interface.network)
        if not reach:
            return None
        remote, rport, nic = reach[self._turn.get(peer, 0) % len(reach)]
        while True:
            lport = self._core.randint(*EPHEMERAL_PORTS)
            addrs = Addrs(remote, rport, nic.interface.ip, lport)
            if lport != underlay.knock_port and addrs not in taken:
                return addrs

    def failed(self, peer: bytes) -> None:
        """The next link to `peer` tries its next endpoint."""
        self._turn[peer] = self._turn.get(peer, 0) + 1
