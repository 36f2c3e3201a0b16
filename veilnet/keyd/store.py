# SPDX-License-Identifier: Apache-2.0
"""Records that let the engine go on after a restart, in the data plane's state map.

A record is `length of fields 2 | fields as JSON | session bytes` and fits one map entry, so that each write is atomic.
Records go with what they describe, so the limits of links, streams and relayed circuits bound them (`VEIL_STATES`).
The record is the truth: it is written before the maps that follow from it and dropped before they are removed.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, Final

from veilnet.contract import STATE_LEN
from veilnet.keyd.dataplane import DataPlane
from veilnet.protocol.errors import LocalError

Record = tuple[dict[str, Any], bytes]


class Kind(IntEnum):
    """Numbering of `struct veil_state_key.kind`; index is that of the link, label, stream or peer."""

    PEER = 1
    LINK = 2
    CIRCUIT = 3
    LEG = 4
    STREAM = 5


FIELDS: Final = {
    Kind.PEER: {"node"},
    Kind.LINK: {"p", "a", "n"},
    Kind.CIRCUIT: {"l", "o", "x", "p"},
    Kind.LEG: {"l", "o", "c"},
    Kind.STREAM: {"p", "c", "i", "b"},
}
"""What a record must have."""


class Store:
    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._last: dict[tuple[Kind, int], bytes] = {}

    def save(self, kind: Kind, index: int, fields: dict[str, Any], blob: bytes = b"") -> None:
        text = json.dumps(fields, separators=(",", ":")).encode()
        data = len(text).to_bytes(2, "little") + text + blob
        if len(data) > STATE_LEN:
            raise LocalError(f"{kind.name} record has {len(data)} bytes")
        if self._last.get((kind, index)) != data:
            self._plane.save_state(kind, index, data)
            self._last[kind, index] = data

    def drop(self, kind: Kind, index: int) -> None:
        self._last.pop((kind, index), None)
        self._plane.drop_state(kind, index)

    def load(self) -> dict[tuple[Kind, int], Record]:
        """All records; those that can't be read are dropped."""
        found: dict[tuple[Kind, int], Record] = {}
        for (kind, index), data in self._plane.load_states().items():
            try:
                end = 2 + int.from_bytes(data[:2], "little")
                fields = json.loads(data[2:end])
                if not FIELDS[Kind(kind)] <= fields.keys():
                    raise ValueError("fields")
                found[Kind(kind), index] = fields, data[end:]
                self._last[Kind(kind), index] = data
            except (ValueError, AttributeError):
                self._plane.drop_state(kind, index)
        return found
