# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from veilnet.api.schemas import Out

Text = Annotated[str | None, Field(max_length=128)]


class AuditFilter(BaseModel):
    realm: Annotated[str | None, Field(max_length=64)] = None
    actor_id: Text = None
    action: Text = None
    subject: Text = None


class AuditEventOut(Out):
    """`changes` is field → [before, after]; `hash` covers this entry and the hash before it."""

    id: str
    seq: int
    created_at: datetime
    realm_id: str | None
    action: str
    actor_kind: str
    actor_id: str
    actor_name: str
    token_id: str | None
    request_id: str
    source: str
    subject: str | None
    changes: dict[str, Any]
    hash: str
