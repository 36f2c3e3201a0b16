# SPDX-License-Identifier: Apache-2.0
"""What changed, without what must stay secret."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel

SECRET: Final = re.compile(r"private|secret|seed|password|credential|hash|bearer|(^|_)(token|pem|key)($|_)")
_PUBLIC: Final = re.compile(r"public_key|ca_key|_id$")
_VALUE_MAX: Final = 4096
HIDDEN: Final = "(hidden)"


def redacted(value: Any, name: str = "") -> Any:
    """`value` with every field whose name speaks of a secret replaced, and long texts cut."""
    if SECRET.search(name) and not _PUBLIC.search(name) and value is not None:
        return HIDDEN
    if isinstance(value, dict):
        return {key: redacted(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    if isinstance(value, str) and len(value) > _VALUE_MAX:
        return value[:_VALUE_MAX] + "…"
    return value


def diff(before: BaseModel | None, after: BaseModel | None) -> dict[str, list[Any]]:
    """Field → [before, after] of what differs; all fields where one of them is None."""
    old = {} if before is None else before.model_dump(mode="json")
    new = {} if after is None else after.model_dump(mode="json")
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return {name: [redacted(old.get(name), name), redacted(new.get(name), name)] for name in sorted(changed)}
