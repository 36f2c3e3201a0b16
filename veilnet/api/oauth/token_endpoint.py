# SPDX-License-Identifier: Apache-2.0
"""`POST /oauth2/token`: the token endpoint as RFC 6749 sections 3.2, 4.4 and 5 want it.

It stands outside /api/v1, whose contract it can't keep: its body is a form, its errors are the standard's own JSON and
not problem documents, so that any OAuth 2.0 client library can use it. RFC 8414 metadata stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from veilnet.api.accounts.models import ServiceAccount
from veilnet.api.context import Context
from veilnet.api.errors import TooMany
from veilnet.api.oauth.access_tokens import (
    ASSERTION,
    Granted,
    OAuthError,
    by_assertion,
    by_secret,
    issue,
    read_basic,
    read_scope,
)
from veilnet.api.oauth.models import ServiceAccountSecret
from veilnet.api.platform.access import source_of

PATH: Final = "/oauth2/token"
METADATA: Final = "/.well-known/oauth-authorization-server"
FORM: Final = "application/x-www-form-urlencoded"
FIELDS_MAX: Final = 32
_NOT_STORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def install_token_endpoint(app: FastAPI) -> None:
    @app.post(PATH, include_in_schema=False)
    async def token(request: Request) -> JSONResponse:
        context: Context = request.app.state.context
        try:
            context.limiter.take("login", source_of(request))
            return _answer(await _granted(context, request))
        except OAuthError as error:
            return _refusal(error)
        except TooMany as error:
            return _refusal(OAuthError("temporarily_unavailable", error.detail, 429), error.headers)

    @app.get(METADATA, include_in_schema=False)
    async def metadata(request: Request) -> dict[str, Any]:
        """RFC 8414."""
        context: Context = request.app.state.context
        url = context.settings.public_url
        return {
            "issuer": url,
            "token_endpoint": url + PATH,
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }


async def _granted(context: Context, request: Request) -> Granted:
    form = await _form(request)
    grant = form.get("grant_type")
    if grant is None:
        raise OAuthError("invalid_request", "grant_type is missing")
    if grant != "client_credentials":
        raise OAuthError("unsupported_grant_type", "this endpoint knows client_credentials only")
    scope = read_scope(form.get("scope"))
    account, used = await _client(context, request.headers.get("authorization"), form)
    return await issue(context, account, used, scope, source_of(request))


async def _client(
    context: Context, header: str | None, form: Mapping[str, str]
) -> tuple[ServiceAccount, ServiceAccountSecret | None]:
    """One way of proving who it is, and not two (section 2.3)."""
    ways = [header is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise OAuthError("invalid_request", "prove the client in one way: header, client_secret or client_assertion")
    if header is not None:
        return await by_secret(context, *read_basic(header))
    if "client_assertion" in form:
        if form.get("client_assertion_type") != ASSERTION:
            raise OAuthError("invalid_request", f"client_assertion_type must be {ASSERTION}")
        return await by_assertion(context, form["client_assertion"]), None
    return await by_secret(context, form.get("client_id", ""), form.get("client_secret", ""))


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise OAuthError("invalid_request", f"send `Content-Type: {FORM}`")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("utf-8"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise OAuthError("invalid_request", "the body is no form in UTF-8") from None
    found = {name: value for name, value in pairs if value}  # an empty value counts as left out (section 3.2)
    if len({name for name, _ in pairs}) != len(pairs) or any("\0" in value for value in found.values()):
        raise OAuthError("invalid_request", "a parameter stands twice, or holds a NUL")
    return found


def _answer(granted: Granted) -> JSONResponse:
    body = {"access_token": granted.token, "token_type": "Bearer", "expires_in": granted.expires_in}
    if granted.scope is not None:
        body["scope"] = granted.scope
    return JSONResponse(body, headers=_NOT_STORED)


def _refusal(error: OAuthError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    found = {**_NOT_STORED, **(headers or {})}
    if error.status == 401:
        found["WWW-Authenticate"] = 'Basic realm="VeilNet"'
    return JSONResponse({"error": error.error, "error_description": error.description}, error.status, found)
