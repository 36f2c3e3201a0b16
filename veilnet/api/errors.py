# SPDX-License-Identifier: Apache-2.0
"""Errors of the API: every 4xx and 5xx is `application/problem+json` (RFC 9457) with a code from the table below.

ApiError
├── BadRequest 400            not JSON, or a header that can't be read
├── Unauthorized 401          no credential, or a wrong one
├── Forbidden 403             the credential is right and not good for this
├── NotFound 404              not there, or in a realm that the caller may not see
├── Conflict 409              the request is right and clashes with what exists
├── Gone 410                  it was there and is no longer kept
├── PreconditionFailed 412    If-Match names an older version
├── TooLarge 413
├── UnsupportedMedia 415
├── Invalid 422               the body is well-formed and wrong
├── PreconditionRequired 428  If-Match is missing
├── TooMany 429
└── Unavailable 503           the database is locked, full, read-only or gone; nothing was changed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from veilnet.api.platform.request_id import current_request_id
from veilnet.api.schemas import FieldError, Problem

_log: Any = structlog.get_logger("veilnet.api")

TYPE_PREFIX: Final = "urn:veilnet:problem:"
TITLES: Final = {
    "unauthorized": "A valid bearer credential is needed",
    "enrolment-refused": "The enrolment token is not known here",
    "token-spent": "The enrolment token is used up",
    "token-revoked": "The enrolment token was revoked",
    "token-expired": "The enrolment token has expired",
    "address-not-allowed": "The enrolment token can't be used from this address",
    "node-revoked": "The node was revoked",
    "node-expired": "The node has expired",
    "not-a-conflux": "The node is no Conflux",
    "network-refused": "The prefix can't be behind a node",
    "network-known": "The network is known already",
    "network-conflict": "The network overlaps with another node's",
    "too-many-networks": "The node has as many networks as a certificate takes",
    "not-a-guardian": "The node is no Guardian",
    "certificate-lapsed": "The node's certificate ended too long ago",
    "policy-invalid": "The policy document is not valid",
    "policy-test-failed": "The policy's own tests do not hold",
    "rotation-underway": "A CA key is still being put into use",
    "rotation-order": "The steps of a CA rotation come in order",
    "clock-suspect": "The Master's clock can't be right",
    "forbidden": "Not allowed",
    "not-found": "Not found",
    "method-not-allowed": "Method not allowed",
    "conflict": "The request clashes with another one; ask again",
    "name-taken": "The name is taken",
    "realm-not-empty": "The realm has nodes",
    "address-range-full": "No free overlay address is left",
    "not-ready": "Not ready",
    "descriptor-stale": "A newer descriptor is known",
    "too-large": "The request is too large",
    "too-slow": "The request did not come in time",
    "invalid": "The request is not valid",
    "signature-invalid": "A signed document was refused",
    "bad-request": "The request could not be read",
    "malformed-json": "The body is not JSON",
    "gone": "No longer kept",
    "precondition-failed": "It was changed since",
    "precondition-required": "If-Match is needed",
    "unsupported-media-type": "The body's type is not supported",
    "unknown-parameter": "The query has an unknown parameter",
    "cursor-invalid": "The cursor is not of this list",
    "idempotency-key-reused": "The idempotency key was used for another request",
    "idempotency-in-flight": "The first request with this idempotency key is still running",
    "idempotency-unreadable": "The stored answer belongs to another credential",
    "last-owner": "Somebody must stay who may do everything",
    "login-refused": "The sign-in was refused",
    "provider-unavailable": "The identity provider does not answer as it should",
    "operation-ended": "The operation has ended",
    "rate-limited": "Too many requests",
    "unavailable": "The Master can't use its database now; nothing was changed",
    "internal": "The Master failed; its log has the details",
}
_STATUS_CODES: Final = {400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found",
                        405: "method-not-allowed", 408: "too-slow", 413: "too-large", 415: "unsupported-media-type",
                        422: "invalid", 503: "unavailable"}  # fmt: skip
RETRY_SECONDS: Final = 2
"""What `Retry-After` says while the database is away."""


class ApiError(Exception):
    status = 500

    def __init__(self, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers: dict[str, str] = {}


class BadRequest(ApiError):  # noqa: N818 - named as the status is
    status = 400


class Unauthorized(ApiError):  # noqa: N818
    status = 401


class Forbidden(ApiError):  # noqa: N818
    status = 403


class NotFound(ApiError):  # noqa: N818
    status = 404

    def __init__(self, what: str, name: str) -> None:
        super().__init__("not-found", f"no {what} with the id or name {name!r}")


class Conflict(ApiError):  # noqa: N818
    status = 409


class Gone(ApiError):  # noqa: N818
    status = 410


class PreconditionFailed(ApiError):  # noqa: N818
    status = 412

    def __init__(self, detail: str) -> None:
        super().__init__("precondition-failed", detail)


class TooLarge(ApiError):  # noqa: N818
    status = 413


class ClockSuspect(ApiError):  # noqa: N818
    status = 503

    def __init__(self, detail: str) -> None:
        super().__init__("clock-suspect", detail)


class UnsupportedMedia(ApiError):  # noqa: N818
    status = 415

    def __init__(self, wanted: str) -> None:
        super().__init__("unsupported-media-type", f"send `Content-Type: {wanted}`")


class Invalid(ApiError):  # noqa: N818
    status = 422


class PreconditionRequired(ApiError):  # noqa: N818
    status = 428

    def __init__(self, detail: str) -> None:
        super().__init__("precondition-required", detail)


class TooMany(ApiError):  # noqa: N818
    status = 429

    def __init__(self, kind: str, seconds: int) -> None:
        super().__init__("rate-limited", f"too many {kind} requests: wait {seconds} s")
        self.headers["Retry-After"] = str(seconds)


class Unavailable(ApiError):  # noqa: N818
    status = 503

    def __init__(self, detail: str, code: str = "unavailable") -> None:
        super().__init__(code, detail)
        self.headers["Retry-After"] = str(RETRY_SECONDS)


def problem_of(error: ApiError) -> Problem:
    """As a document, for errors of one of several things that were asked for."""
    return _problem(error.status, error.code, error.detail, error.errors)


def _problem(status: int, code: str, detail: str, errors: Sequence[FieldError]) -> Problem:
    return Problem(
        type=TYPE_PREFIX + code,
        title=TITLES[code],
        status=status,
        code=code,
        detail=detail,
        errors=list(errors),
        trace_id=current_request_id(),
    )


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = _problem(status, code, detail, errors)
    found = dict(headers or {})
    if status == 401:
        found.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(problem.model_dump(), status, found, media_type="application/problem+json")


def error_response(error: ApiError) -> JSONResponse:
    return problem_response(error.status, error.code, error.detail, errors=error.errors, headers=error.headers)


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Pydantic's errors as pointers and sentences; the values that were sent are not repeated."""
    return [FieldError(pointer=_pointer(item["loc"]), detail=item["msg"]) for item in errors]


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
        errors = field_errors(error.errors())
        return problem_response(422, "invalid", "one or more fields are wrong, see errors", errors=errors)

    _install_database_handlers(app)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("failed", method=request.method, path=request.url.path, exc_info=error)
        return problem_response(500, "internal", "the request was not carried out")


def _install_database_handlers(app: FastAPI) -> None:
    @app.exception_handler(StaleDataError)
    async def stale(request: Request, _: StaleDataError) -> JSONResponse:
        if request.headers.get("if-match", "*").strip() == "*":  # whoever names no version can't have the wrong one
            return error_response(Unavailable("another request changed it at this moment: send it again"))
        return error_response(PreconditionFailed("another request changed it at this moment: GET it again"))

    @app.exception_handler(DataError)
    async def bad_data(_: Request, __: DataError) -> JSONResponse:
        return problem_response(422, "invalid", "a value does not fit into its column")

    @app.exception_handler(IntegrityError)
    async def clash(_: Request, __: IntegrityError) -> JSONResponse:
        """Two requests at once took the same name or address: the database's constraint decided."""
        return problem_response(409, "conflict", "another request took the same name or address at this moment")

    @app.exception_handler(SQLAlchemyError)
    async def database(request: Request, error: SQLAlchemyError) -> JSONResponse:
        """Locked, full, read-only, gone, a deadlock, no free connection: the same request may be sent again."""
        _log.error(
            "database",
            method=request.method,
            path=request.url.path,
            error=type(error).__name__,
            detail=str(error.args[:1]),
        )
        return error_response(Unavailable(f"try again in {RETRY_SECONDS} s"))

    @app.exception_handler(OSError)
    async def unreachable(request: Request, error: OSError) -> JSONResponse:
        """A connection to the database refused or cut, a full disk below a key file."""
        _log.error("system", method=request.method, path=request.url.path, exc_info=error)
        return error_response(Unavailable(f"try again in {RETRY_SECONDS} s"))


def _pointer(location: Sequence[Any]) -> str:
    """JSON pointer (RFC 6901) into the body, or `query/limit` and the like.

    Without what Pydantic adds of its own: the validators of a union's branches, which have brackets.
    """
    words = [str(part) for part in location if "[" not in str(part)]
    parts = [word.replace("~", "~0").replace("/", "~1") for word in words]
    return "/" + "/".join(parts[1:]) if parts and parts[0] == "body" else "/".join(parts)
