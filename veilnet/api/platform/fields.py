# SPDX-License-Identifier: Apache-2.0
"""`fields=id,name`: only these fields of each item, or of the one object."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from veilnet.api.errors import Invalid
from veilnet.api.schemas import FieldError, Page


def selectable(model: Any) -> frozenset[str]:
    """Fields that may be asked for of this response model; empty if it is no object or list of objects."""
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        return frozenset()
    if issubclass(model, Page):
        item = model.model_fields["items"].annotation
        return selectable(get_args(item)[0]) if get_origin(item) is list else frozenset()
    return frozenset(model.model_fields)


def read_fields(text: str, known: frozenset[str]) -> frozenset[str]:
    wanted = frozenset(text.split(","))
    if unknown := sorted(wanted - known):
        wrong = [FieldError(pointer="query/fields", detail=f"unknown: {name[:64]}") for name in unknown[:10]]
        raise Invalid("invalid", f"fields: choose among {', '.join(sorted(known))}", wrong)
    return wanted


def select_fields(body: bytes, wanted: frozenset[str]) -> bytes:
    found = json.loads(body)
    if "items" in found and "next_cursor" in found:
        found["items"] = [_only(item, wanted) for item in found["items"]]
    else:
        found = _only(found, wanted)
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def _only(item: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name in wanted}
