# SPDX-License-Identifier: Apache-2.0
"""Errors of the API: every 4xx and 5xx is `application/problem+json` (RFC 9457) with a code from the table below.

ApiError
├── Unauthorized 401       no credential, or a wrong one
├── Forbidden 403          the credential is right and no longer good for this
├── NotFound 404
├── Conflict 409           the request is right and clashes with what exists
├── TooLarge 413
└── Invalid 422            the body is well-formed and wrong
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from veilnet.api.schemas import FieldError, Problem

_log = logging.getLogger("veilnet.api")

TYPE_PREFIX: Final = "urn:veilnet:problem:"
TITLES: Final = {
    "unauthorized": "A valid bearer credential is needed",
    "enrolment-refused": "The enrolment token is not known here",
    "token-spent": "The enrolment token is used up",
    "token-revoked": "The enrolment token was revoked",
    "token-expired": "The enrolment token has expired",
    "node-revoked": "The node was revoked",
    "forbidden": "Not allowed",
    "not-found": "Not found",
    "method-not-allowed": "Method not allowed",
    "conflict": "The request clashes with another one; ask again",
    "name-taken": "The name is taken",
    "address-range-full": "No free overlay address is left",
    "not-ready": "Not ready",
    "descriptor-stale": "A newer descriptor is known",
    "too-large": "The request is too large",
    "invalid": "The request is not valid",
    "signature-invalid": "A signed document was refused",
    "bad-request": "The request could not be read",
    "internal": "The Master failed; its log has the details",
}
_STATUS_CODES: Final = {400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found",
                        405: "method-not-allowed", 413: "too-large", 422: "invalid"}  # fmt: skip


class ApiError(Exception):
    status = 500

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Unauthorized(ApiError):  # noqa: N818 - named as the status is
    status = 401


class Forbidden(ApiError):  # noqa: N818 - named as the status is
    status = 403


class NotFound(ApiError):  # noqa: N818 - named as the status is
    status = 404

    def __init__(self, what: str, name: str) -> None:
        super().__init__("not-found", f"no {what} with the id or name {name!r}")


class Conflict(ApiError):  # noqa: N818 - named as the status is
    status = 409


class TooLarge(ApiError):  # noqa: N818 - named as the status is
    status = 413


class Invalid(ApiError):  # noqa: N818 - named as the status is
    status = 422


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=TYPE_PREFIX + code, title=TITLES[code], status=status, code=code, detail=detail, errors=list(errors)
    )
    found = dict(headers or {})
    if status == 401:
        found.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(problem.model_dump(), status, found, media_type="application/problem+json")


def error_response(error: ApiError) -> JSONResponse:
    return problem_response(error.status, error.code, error.detail)


def install_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        code = _STATUS_CODES.get(error.status_code, "internal" if error.status_code >= 500 else "bad-request")
        return problem_response(error.status_code, code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [FieldError(pointer=_pointer(item["loc"]), detail=item["msg"]) for item in error.errors()]
        return problem_response(422, "invalid", "one or more fields are wrong, see errors", errors=errors)

    @app.exception_handler(IntegrityError)
    async def clash(_: Request, __: IntegrityError) -> JSONResponse:
        """Two requests at once took the same name or address: the database's constraint decided."""
        return problem_response(409, "conflict", "another request took the same name or address at this moment")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(500, "internal", "the request was not carried out")


def _pointer(location: Sequence[Any]) -> str:
    """JSON pointer (RFC 6901) into the body, or `query/limit` and the like."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location]
    return "/" + "/".join(parts[1:]) if parts and parts[0] == "body" else "/".join(parts)
