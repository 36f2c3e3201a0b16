# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Any

from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.schemas import Out


class EventOut(Out):
    """Something that happened. `id` rises by one from event to event, over all realms."""

    id: int
    type: str
    realm_id: str | None
    subject: str
    data: dict[str, Any]
    request_id: str
    created_at: datetime


def event_out(row: OutboxEvent) -> EventOut:
    return EventOut.model_validate(row)
