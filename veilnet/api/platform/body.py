# SPDX-License-Identifier: Apache-2.0
"""Bodies before any schema sees them: the right type, JSON, and no text that a database can't hold."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from starlette.requests import Request

from veilnet.api.errors import BadRequest, UnsupportedMedia

JSON_TYPE: Final = "application/json"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
PATCH_TYPE: Final = "application/merge-patch+json"


async def check_body(request: Request) -> None:
    """Raises UnsupportedMedia or BadRequest. No body at all is left to the schema."""
    body = await request.body()
    if not body:
        return
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in ({JSON_TYPE, PATCH_TYPE} if request.method == "PATCH" else {JSON_TYPE}):
        raise UnsupportedMedia(PATCH_TYPE if request.method == "PATCH" else JSON_TYPE)
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
        _check_texts(value)
    except (ValueError, RecursionError) as error:
        raise BadRequest("malformed-json", f"the body is not JSON in UTF-8: {str(error)[:200]}") from None


def check_text(text: str) -> None:
    """No NUL, which Postgres refuses, and no lone surrogate, which is no UTF-8."""
    if "\0" in text or (not text.isascii() and _SURROGATE.search(text)):
        raise ValueError("texts hold no NUL and no lone surrogates")


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            check_text(name)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found
