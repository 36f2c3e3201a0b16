# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from veilnet.api.schemas import Out

OperationState = Literal["running", "succeeded", "failed", "cancelled"]


class OperationOut(Out):
    """`total` null: not known how much there is to do. `result` depends on `kind`."""

    id: str
    kind: str
    realm_id: str | None
    state: OperationState
    done: int
    total: int | None
    cancel_asked: bool
    result: dict[str, Any] | None
    error: str | None
    created_by: str
    created_at: datetime
    ended_at: datetime | None
