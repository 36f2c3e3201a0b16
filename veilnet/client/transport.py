# SPDX-License-Identifier: Apache-2.0
"""One connection to a Master: bearer, TLS, idempotency keys, problems as exceptions."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

TIMEOUT: Final = 30.0
TRIES: Final = 4
WAIT_MAX: Final = 30.0
AGAIN: Final = 0.3
KEY: Final = "Idempotency-Key"


class Unreachable(Exception):  # noqa: N818 - what happened
    """Nobody answered, or not in HTTP."""


@dataclass
class ApiProblem(Exception):  # noqa: N818 - RFC 9457's word
    """The Master refused: a problem document (RFC 9457)."""

    status: int
    code: str
    title: str
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    trace_id: str | None = None

    def __str__(self) -> str:
        wrong = "; ".join(f"{item['pointer']}: {item['detail']}" for item in self.errors)
        return f"{self.title}: {self.detail}" + (f" ({wrong})" if wrong else "")


class Transport:
    """Repeats what may be repeated: reads, writes under an idempotency key, and what 429 or 503 refused for now."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | bool) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=url, headers=headers, verify=tls, timeout=TIMEOUT, trust_env=False)
        self._last = threading.local()

    @property
    def etag(self) -> str:
        """ETag of this thread's last answer; empty if it had none."""
        return str(getattr(self._last, "etag", ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    @staticmethod
    def quoted(value: object) -> str:
        return quote(str(value), safe="")

    def call(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        body: Any = None,
        media: str = "application/json",
    ) -> Any:
        """The answer's JSON, None without one. Raises ApiProblem, Unreachable."""
        request = self._request(verb, path, query, headers, body, media)
        response = self._send(request, TRIES)
        if not response.is_success:
            raise problem(response)
        self._last.etag = response.headers.get("ETag", "")
        return response.json() if response.content else None

    def stream(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        body: Any = None,
        media: str = "application/json",
    ) -> Iterator[str]:
        """Lines of an answer that may have no end. Raises ApiProblem, Unreachable."""
        request = self._request(verb, path, query, headers, body, media)
        request.extensions["timeout"] = {"connect": TIMEOUT, "read": None, "write": TIMEOUT, "pool": TIMEOUT}
        try:
            response = self._client.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise problem(response)
                yield from response.iter_lines()
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error

    def _request(  # noqa: PLR0917 - what a request is made of
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, Any] | None,
        body: Any,
        media: str,
    ) -> httpx.Request:
        given = {name: str(value) for name, value in (headers or {}).items() if value is not None}
        if verb == "POST":
            given.setdefault(KEY, secrets.token_hex(16))
        params = {name: value for name, value in (query or {}).items() if value is not None}
        content: dict[str, Any] = {}
        if body is not None:
            content = {"data": body} if media == "application/x-www-form-urlencoded" else {"json": body}
            given.setdefault("Content-Type", media)
        return self._client.build_request(verb, path, params=params, headers=given, **content)

    def _send(self, request: httpx.Request, tries: int) -> httpx.Response:
        try:
            response = self._client.send(request)
        except httpx.HTTPError as error:
            lost = isinstance(error, httpx.ConnectError) or request.method == "GET" or KEY in request.headers
            if tries > 1 and lost and isinstance(error, httpx.TransportError):
                time.sleep(AGAIN)
                return self._send(request, tries - 1)
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error
        wait = _wait(response)
        if wait is None or tries == 1:
            return response
        time.sleep(wait)
        return self._send(request, tries - 1)


def _wait(response: httpx.Response) -> float | None:
    """Seconds after which the Master wants to be asked again; None if it does not, or only too late."""
    after = response.headers.get("Retry-After", "")
    if response.status_code not in {429, 503} or not after.isdigit() or float(after) > WAIT_MAX:
        return None
    return float(after)


def problem(response: httpx.Response) -> ApiProblem:
    try:
        found = response.json()
        return ApiProblem(
            response.status_code,
            str(found["code"]),
            str(found["title"]),
            str(found["detail"]),
            list(found.get("errors", ())),
            found.get("trace_id"),
        )
    except (ValueError, KeyError, TypeError):
        status = response.status_code
        return ApiProblem(status, "unknown", f"HTTP status {status}", "no problem document: is this a VeilNet Master?")
