# SPDX-License-Identifier: Apache-2.0
"""A node's copy of what it may know of its realm: takes heads and records one by one, gives the Directory in force.

Sans-IO. `clock` is always this host's unix time; documents are judged by the later of it and `floor`, the latest
time that
a realm CA has signed and this clock has agreed with, so that setting a clock back revives nothing that has run out.
A document is stored when its signatures verify and its version is new; whether it counts is decided by the time, at
each
`directory`, so that a clock that was wrong for a while costs nothing for good. One bad record is refused, and only
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from veilnet.protocol.directory import CLOCK_SKEW, Directory, NodeView, Rollback, node_view, sees
from veilnet.protocol.envelope import MalformedDocument
from veilnet.protocol.records import Head, Record, open_head, open_record
from veilnet.protocol.trust import Trust

RECORDS_MAX: Final = 65536
FORGET_AFTER: Final = 7 * 86400
"""Seconds for which a record is kept after its end: its version still shuts older ones out."""


class Replica:
    """`version`: what the Master has sent us up to. `floor`: see above. `shut`: records of lower versions are of the
    time before the Master was restored, and shut out. All three outlive a restart with the documents."""

    def __init__(self, trust: Trust, own: bytes, *, version: int = 0, floor: int = 0, shut: int = 0) -> None:
        self.trust = trust
        self.version = version
        self.floor = floor
        self.shut = shut
        self.unseen: set[bytes] = set()
        """Nodes that went out of our sight: what we hold of them is old, and counts when the Master sends it again."""
        self._doubtful: set[bytes] = set()
        self.head: Head | None = None
        self._own = own
        self._records: dict[bytes, Record] = {}
        self._views: dict[bytes, tuple[Record, NodeView]] = {}

    def now(self, clock: int) -> int:
        return max(clock, self.floor)

    @property
    def owns_itself(self) -> bool:
        """A head and our own record are here."""
        return self.head is not None and self._own in self._records

    @property
    def own(self) -> Record | None:
        """Our own record, if it is here."""
        return self._records.get(self._own)

    # ---- taking ----------------------------------------------------------------------------------------------------

    def take_head(self, data: bytes | Mapping[str, Any], clock: int) -> bool:
        """Whether it is a newer head than the one in force; False for the same again. Raises DirectoryError.

        Also one past its end: the newest is the best there is, and `clock_fault` says so. A clock that is wrong when
        it comes must not cost us the realm's policy.
        """
        # ID6
        head = open_head(data, self.trust)
        if self.head is not None and head.version <= self.head.version:
            if head.version == self.head.version:
                return False
            raise Rollback(f"head of version {head.version}, {self.head.version} is known")
        self.head, self.trust = head, head.trust
        self._doubtful.update(self._records)
        self._saw(head.issued, clock)
        return True

    def take_record(self, data: bytes | Mapping[str, Any], clock: int) -> bytes | None:
        """Id of the node whose record this replaces; None for the same again. Raises DirectoryError."""
        # ID6
        record = open_record(data, self.trust, self._records.get)
        if record.entry.version < self.shut:
            raise Rollback(f"record of version {record.entry.version}, from {self.shut} on they count")
        held = self._records.get(record.entry.node)
        if held is not None and record.entry.version <= held.entry.version:
            if record.entry.version == held.entry.version:
                return self._seen_again(record.entry.node)
            raise Rollback(f"record of version {record.entry.version}, {held.entry.version} is known")
        if held is None and len(self._records) >= RECORDS_MAX:
            raise MalformedDocument(f"more than {RECORDS_MAX} records")
        self._records[record.entry.node] = record
        self.unseen.discard(record.entry.node)
        self._doubtful.update(self._records if record.entry.node == self._own else {record.entry.node})
        self._saw(record.entry.issued, clock)
        return record.entry.node

    def reached(self, version: int) -> None:
        """The Master has sent everything up to this version.

        Only now the head's floor counts: whatever the Master still knows has come anew, nothing is missed in between.
        """
        # ID9
        self.version = max(self.version, version)
        if self.head is not None and self.version >= self.head.version:
            self.shut = max(self.shut, self.head.floor)
        self._look_around()

    def _seen_again(self, node: bytes) -> bytes | None:
        if node not in self.unseen:
            return None
        self.unseen.discard(node)
        return node

    def _look_around(self) -> None:
        """Who is out of sight by what changed: its further changes are not for us, so what we hold of it ages."""
        # ID7
        own = self._records.get(self._own)
        if self.head is not None and own is not None and own.certificate is not None:
            for node in self._doubtful & self._records.keys():
                record = self._records[node]
                if record.certificate is not None and not self._sees(self.head, own, record):
                    self.unseen.add(node)
        self._doubtful.clear()

    def _sees(self, head: Head, own: Record, other: Record) -> bool:
        return sees(head.policy, self._view(own), own.entry.edges, self._view(other), other.entry.edges)

    def forget(self) -> list[bytes]:
        """Drop what was shut out, and records that ended long ago by signed times, whatever this host's clock says;
        their node ids."""
        end = self.floor - FORGET_AFTER
        gone = [
            node for node, record in self._records.items() if record.entry.version < self.shut or record.not_after < end
        ]
        for node in gone:
            del self._records[node]
            self.unseen.discard(node)
            self._views.pop(node, None)
        return gone

    def _saw(self, issued: int, clock: int) -> None:
        """A signed time counts only if this clock agrees: a Master whose clock runs ahead must not lock us out."""
        if issued <= self.now(clock) + CLOCK_SKEW:
            self.floor = max(self.floor, issued)

    # ---- the view ----------------------------------------------------------------------------------------------------

    def clock_fault(self, clock: int, master: int | None = None) -> str | None:
        """What is wrong with this host's clock by the documents seen and, if known, the Master's time."""
        if clock + CLOCK_SKEW < self.floor:
            return f"clock-behind: this host's clock is {self.floor - clock} s behind signed documents; set it"
        if master is not None and abs(master - clock) > CLOCK_SKEW:
            way = "ahead of" if clock > master else "behind"
            return f"clock-differs: this host's clock is {abs(clock - master)} s {way} the Master's; one is wrong"
        if self.head is not None and self.head.expires <= self.now(clock):
            return f"head-ended: the realm's head ended {self.now(clock) - self.head.expires} s ago; check both clocks"
        return None

    def directory(self, clock: int) -> Directory:
        """What is valid now and ours to know; without a head, nothing is."""
        # ID7
        head, now = self.head, self.now(clock)
        if head is None:
            return Directory(self.trust.realm, self.version, {}, {}, frozenset())
        retired = self.trust.retired_ids
        valid = [
            record
            for node, record in self._records.items()
            if record.counts(now) and not record.signers & retired and node not in self.unseen
        ]
        valid.sort(key=lambda record: -record.entry.version)
        live = _unique((record, self._view(record)) for record in valid)
        own = live.get(self._own)
        its = own[0].entry.edges if own else frozenset()
        nodes = {
            node: view
            for node, (record, view) in live.items()
            if (sees(head.policy, own[1], its, view, record.entry.edges) if own else "guardian" in view.roles)
        }
        edges = (
            frozenset({node, other})
            for node in nodes
            for other in live[node][0].entry.edges
            if other in nodes and other != node
        )
        alive = sum(record.certificate is not None for record in self._records.values())
        return Directory(
            self.trust.realm,
            self.version,
            head.settings,
            MappingProxyType(nodes),
            frozenset(edges),
            head.issued,
            head.expires,
            head.policy,
            head.names,
            dropped=alive - len(live),
        )

    def _view(self, record: Record) -> NodeView:
        held = self._views.get(record.entry.node)
        if held is not None and held[0] is record:
            return held[1]
        if record.certificate is None or record.descriptor is None:
            raise MalformedDocument("record of a node that is gone")
        view = node_view(record.certificate, record.descriptor, draining=record.entry.draining)
        self._views[record.entry.node] = record, view
        return view


def _unique(found: Iterable[tuple[Record, NodeView]]) -> dict[bytes, tuple[Record, NodeView]]:
    """Of those that claim one name or overlay address, the first."""
    kept: dict[bytes, tuple[Record, NodeView]] = {}
    taken: set[object] = set()
    for record, view in found:
        claims = {view.name, view.ipv4, view.ipv6}
        if taken.isdisjoint(claims):
            kept[view.node_id] = record, view
            taken |= claims
    return kept
