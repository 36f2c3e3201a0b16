# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from veilnet.api.schemas import Body, Out
from veilnet.api.times import DAY


class SecretCreate(Body):
    """`overlap_seconds`: for how long the account's earlier secrets still count; null leaves them as they are."""

    expires_in: Annotated[int, Field(ge=60, le=365 * DAY)] = 365 * DAY
    overlap_seconds: Annotated[int, Field(ge=0, le=30 * DAY)] | None = None


class SecretOut(Out):
    id: str
    service_account_id: str
    state: Literal["usable", "expired"]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class SecretCreated(SecretOut):
    """`client_secret` is shown this once; `client_id` is the service account's id."""

    client_id: str
    client_secret: str
