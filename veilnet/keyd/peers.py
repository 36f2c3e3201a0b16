# SPDX-License-Identifier: Apache-2.0
"""Other nodes as the directory gives them: their keys for a handshake, their knock keys, their numbers in the maps."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from veilnet.keyd.core import Core
from veilnet.keyd.store import Kind, Record
from veilnet.protocol.crypto import Provider
from veilnet.protocol.errors import Reason, RemoteError
from veilnet.protocol.handshake import Identity, Initiator, Mode, PeerKeys, Responder, parse_kind
from veilnet.protocol.knock import KnockKeys, KnockSchedule, circuit_schedule, open_body


class Peers:
    def __init__(self, core: Core, provider: Provider) -> None:
        self._core = core
        self.provider = provider
        self._numbers: dict[bytes, int] = {}
        self._nodes: dict[int, bytes] = {}
        self._last_number = 0
        self._recorded: set[bytes] = set()
        self._realm = b""
        self._responder: Responder | None = None
        self.own_schedule = KnockSchedule(core.own.knock_seed)

    @cached_property
    def identity(self) -> Identity:
        own = self._core.own
        return Identity.from_private(self.provider, own.node_id, own.x25519, own.mlkem768)

    def keys(self, node_id: bytes) -> PeerKeys | None:
        node = self._core.node(node_id)
        return PeerKeys(node.node_id, node.x25519, node.mlkem768) if node else None

    def schedule(self, node_id: bytes) -> KnockSchedule | None:
        node = self._core.node(node_id)
        return KnockSchedule(node.knock_seed) if node else None

    @property
    def circuit_schedule(self) -> KnockSchedule:
        """Keys of handshakes through circuits, the same for every target."""
        return circuit_schedule(self._core.directory.realm)

    def initiator(self, mode: Mode, node_id: bytes) -> Initiator | None:
        """A handshake with a node of the directory; None if it is not in there any more."""
        keys, core = self.keys(node_id), self._core
        if keys is None or node_id == core.own.node_id:
            return None
        own = None if mode is Mode.HOP else self.identity
        return Initiator(self.provider, core.rng, core.directory.realm, mode, own, keys, core.unix)

    @property
    def responder(self) -> Responder:
        """One per realm: it holds the biscuit keys."""
        if self._responder is None or self._realm != self._core.directory.realm:
            core = self._core
            self._realm = core.directory.realm
            self._responder = Responder(
                self.provider, core.rng, self._realm, self.identity, self.keys, tuple(Mode), self._admit
            )
        return self._responder

    def _admit(self, mode: Mode, peer: bytes) -> bool:
        """Edges decide about links, the policy about streams. Who is refused gets no reply from here on."""
        # ID8
        if mode is Mode.LINK and not self._core.may_link(peer):
            self._core.count("refused_no_edge")
            return False
        if mode is Mode.STREAM and not self._core.may_talk(peer):
            self._core.count("refused_policy")
            return False
        return True

    def open_circuit_body(self, body: bytes) -> tuple[KnockKeys, bytes]:
        """Handshake payload that came through a circuit to us, and the reply keys of its slot (KN5)."""
        schedule = self.circuit_schedule
        for slot in KnockSchedule.slots_at(self._core.unix):
            payload = open_body(schedule.knock_keys(slot), body)
            try:
                parse_kind(payload)
            except RemoteError:
                continue
            return schedule.reply_keys(slot), payload
        raise RemoteError(Reason.KIND, "handshake body")

    def number(self, node_id: bytes) -> int:
        """Number of a node in routes and streams; no number is given twice in one run."""
        if node_id not in self._numbers:
            self._last_number += 1
            self._numbers[node_id], self._nodes[self._last_number] = self._last_number, node_id
        return self._numbers[node_id]

    def record(self, node_id: bytes) -> int:
        """A number that outlives a restart, for as long as `keep` asks for it: that of a node with a stream."""
        number = self.number(node_id)
        if node_id not in self._recorded:
            self._recorded.add(node_id)
            self._core.store.save(Kind.PEER, number, {"node": node_id.hex()})
        return number

    def keep(self, streaming: Collection[bytes], known: Collection[bytes]) -> None:
        """Forget the records of nodes without a stream, and the numbers of nodes that are not known either."""
        for node_id in self._recorded.difference(streaming):
            self._core.store.drop(Kind.PEER, self._numbers[node_id])
            self._recorded.discard(node_id)
        for node_id in [name for name in self._numbers if name not in known and name not in self._recorded]:
            del self._nodes[self._numbers.pop(node_id)]

    def node_of(self, number: int) -> bytes | None:
        return self._nodes.get(number)

    def restore(self, records: dict[tuple[Kind, int], Record]) -> None:
        for (kind, number), (fields, _) in records.items():
            if kind is Kind.PEER:
                node_id = bytes.fromhex(fields["node"])
                self._numbers[node_id], self._nodes[number] = number, node_id
                self._recorded.add(node_id)
                self._last_number = max(self._last_number, number)
