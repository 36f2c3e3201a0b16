# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Literal

from veilnet.api.schemas import Out

KeyState = Literal["announced", "active", "overlapping", "retired"]


class CaKeyOut(Out):
    """`overlapping`: signs no more, and what it signed still counts."""

    serial: int
    key_id: str
    fingerprint: str
    state: KeyState


class RealmCa(Out):
    """The realm's CA keys, oldest first. `remaining`: records that the active key has still to sign."""

    realm_id: str
    keys: list[CaKeyOut]
    remaining: int
    announced_at: datetime | None
