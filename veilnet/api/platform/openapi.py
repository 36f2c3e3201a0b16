# SPDX-License-Identifier: Apache-2.0
"""What the platform adds to a route's OpenAPI: the scope it needs and the headers it reads."""

from __future__ import annotations

from typing import Any, Final

from veilnet.api.platform.access import Rule
from veilnet.api.platform.deprecation import Deprecation
from veilnet.api.schemas import Problem

TOO_MANY: Final[dict[int | str, dict[str, Any]]] = {
    429: {
        "model": Problem,
        "description": "Too many of these: the caller has a bucket for this operation alone",
        "content": {"application/problem+json": {}},
        "headers": {
            "Retry-After": {"description": "Seconds to wait", "required": True, "schema": {"type": "integer"}},
        },
    }
}


def _header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": 512}
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}


def _ends(found: Deprecation) -> dict[str, str]:
    return {"x-deprecated-since": found.since.isoformat(), "x-sunset": found.sunset.isoformat(),
            "x-successor": found.successor}  # fmt: skip


def extra(
    method: str, rule: Rule, *, conditional: bool, selectable: bool, deprecation: Deprecation | None = None
) -> dict[str, Any]:
    """`openapi_extra` of a route."""
    parameters = []
    if conditional:
        parameters.append(_header("If-Match", "ETag of the last GET, or *", required=True))
    if method == "POST":
        parameters.append(_header("Idempotency-Key", "The same key and body again give the same answer for 24 h"))
    if selectable:
        schema = {"type": "string", "maxLength": 1024}
        parameters.append({"name": "fields", "in": "query", "description": "These fields only, for example id,name",
                           "required": False, "schema": schema})  # fmt: skip
    if method == "GET":
        parameters.append(_header("If-None-Match", "ETag of a known answer: 304 if it still holds"))
    ends = {} if deprecation is None else _ends(deprecation)
    unchanged = {"responses": {"304": {"description": "The known answer still holds"}}} if method == "GET" else {}
    return {"x-required-scope": rule.scope, **unchanged, **ends, **({"parameters": parameters} if parameters else {})}
