# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from veilnet.api.schemas import Body, Label, Out
from veilnet.api.webhooks.targets import checked_target

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}\.[a-z_]{1,40}$")]
Target = Annotated[str, Field(max_length=512), AfterValidator(checked_target)]
Types = Annotated[list[EventType], Field(max_length=32)]


class WebhookReplace(Body):
    """`types` empty means every type."""

    name: Label
    url: Target
    types: Types = Field(default_factory=list)
    enabled: bool = True


class WebhookCreate(WebhookReplace):
    """`realm` null: events of every realm, for which a grant in every realm is needed."""

    realm: Annotated[str, Field(max_length=64)] | None = None


class WebhookPatch(Body):
    name: Label | None = None
    url: Target | None = None
    types: Types | None = None
    enabled: bool | None = None


class WebhookOut(Out):
    id: str
    realm_id: str | None
    name: str
    url: str
    types: list[str]
    enabled: bool
    position: int
    """Id of the last event that was delivered."""
    failures: int
    failing_since: datetime | None
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    rotation_ends_at: datetime | None
    created_at: datetime


class WebhookCreated(WebhookOut):
    """`secret` is shown this once."""

    secret: str


class WebhookReplay(Body):
    """Deliver again from the event behind this id on, as far as it is kept."""

    after_event_id: Annotated[int, Field(ge=0, lt=10**15)]


class WebhookTested(Out):
    """What the receiver answered; null without an answer."""

    delivered: bool
    status: int | None
    error: str | None
