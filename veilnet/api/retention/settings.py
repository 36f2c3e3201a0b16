# SPDX-License-Identifier: Apache-2.0
"""How long the Master keeps what it only adds to."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from veilnet.api.times import DAY

EVENTS_MIN: Final = 4 * DAY
"""A receiver of webhooks is tried for three days: what waits for it must outlast that."""


class RetentionSettings(BaseModel):
    """`retention` in `master.json`, seconds. Idempotency keys are kept for a day, as the contract says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events_seconds: int = Field(default=7 * DAY, ge=EVENTS_MIN)
    """Events: how far a reader, and a replay to a webhook, may go back."""
    audit_seconds: int | None = Field(default=400 * DAY, ge=DAY)
    """Audit entries; null keeps all. What does not verify is never dropped."""
    operations_seconds: int = Field(default=30 * DAY, ge=DAY)
    """Operations after their end."""
    sessions_seconds: int = Field(default=DAY, ge=0)
    """Tokens of sessions and client credentials after their end."""
    every_seconds: int = Field(default=3600, ge=60)
    """How often one of the replicas drops what is over."""
