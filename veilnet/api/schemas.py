# SPDX-License-Identifier: Apache-2.0
"""Shapes that every domain shares."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label: names of nodes and realms stand in overlay host names."""


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Page(Out, Generic[T]):
    """A part of a list; `next_cursor` null means that this is its end."""

    items: list[T]
    next_cursor: str | None = None


class FieldError(Out):
    pointer: str
    detail: str


class Problem(Out):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] = Field(default_factory=list)
    trace_id: str = ""
    """Id of the request, as in `X-Request-Id` and in the Master's log."""


class SignedDocument(Body):
    """Envelope of docs/protocol.md section 10."""

    payload: Annotated[str, Field(max_length=24_000)]
    sig: Annotated[str, Field(max_length=5_000)]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

    def as_json(self) -> dict[str, Any]:
        return self.model_dump()
