# SPDX-License-Identifier: Apache-2.0
"""The hash chain of the audit: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from veilnet.api.audit.models import FIRST, AuditEvent

__all__ = ["FIRST", "entry_hash", "first_fault"]

_COVERED: Final = (
    "id", "seq", "created_at", "realm_id", "action", "actor_kind", "actor_id", "actor_name", "token_id", "request_id",
    "source", "subject", "changes",
)  # fmt: skip


def entry_hash(previous: str, entry: AuditEvent) -> str:
    """SHA-256 over the hash before and the entry as JSON with sorted keys and no spaces, in hex."""
    body = json.dumps({name: getattr(entry, name) for name in _COVERED}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def first_fault(entries: Iterable[AuditEvent], seq: int = 0, previous: str = FIRST) -> int | None:
    """Number of the first entry that is missing, moved or changed, behind (seq, previous); None if all are right."""
    for entry in entries:
        seq += 1
        if entry.seq != seq or entry.hash != entry_hash(previous, entry):
            return seq
        previous = entry.hash
    return None
