# SPDX-License-Identifier: Apache-2.0
"""JSON Merge Patch (RFC 7396)."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from veilnet.api.errors import Invalid, field_errors

M_ = TypeVar("M_", bound=BaseModel)


def merge_patch(target: Any, patch: Any) -> Any:
    """The procedure of RFC 7396 section 2; neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def patched(model: type[M_], current: BaseModel, patch: BaseModel) -> M_:
    """`current` with the fields that the caller sent, checked as a whole. A null takes the field's default.

    Raises Invalid with a pointer for each wrong field.
    """
    wanted = merge_patch(current.model_dump(mode="json"), patch.model_dump(mode="json", exclude_unset=True))
    try:
        return model.model_validate(wanted)
    except ValidationError as error:
        errors = field_errors([{**item, "loc": ("body", *item["loc"])} for item in error.errors()])
        raise Invalid("invalid", "the result of the patch is not valid, see errors", errors) from error
