# SPDX-License-Identifier: Apache-2.0
"""OAuth 2.0 client credentials (RFC 6749 section 4.4) for service accounts, without the HTTP of it.

A client proves itself by a secret, or by an ID token of a configured provider that names it (RFC 7523 section 2.2).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from veilnet.api.access.models import ApiToken
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.models import ServiceAccount
from veilnet.api.accounts.repository import ServiceAccountRepository
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.identity.repository import IdentityProviderRepository
from veilnet.api.ids import new_id
from veilnet.api.oauth.models import ServiceAccountSecret
from veilnet.api.oauth.repository import SecretRepository
from veilnet.api.platform.call import Call
from veilnet.api.platform.principal import Principal
from veilnet.api.platform.roles import Resource, Verb, scope_name
from veilnet.api.secrets import bearer, new_secret, slow_hash, slow_matches, split_bearer
from veilnet.oidc.errors import ProviderError, TokenRefused
from veilnet.oidc.id_token import TOKEN_MAX

LIFE: Final = 900
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SCOPES: Final = {scope_name(resource, verb) for resource in Resource for verb in Verb}


@dataclass
class OAuthError(Exception):
    """Section 5.2."""

    error: str
    description: str
    status: int = 400


def refused() -> OAuthError:
    return OAuthError("invalid_client", "the client is not known here, or its secret is wrong or has ended", 401)


@dataclass(frozen=True)
class Granted:
    """Section 5.1."""

    token: str
    expires_in: int
    scope: str | None


def read_basic(header: str) -> tuple[str, str]:
    """(client id, secret) of `Authorization: Basic`, both form-encoded inside (section 2.3.1). Raises OAuthError."""
    scheme, _, text = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, secret = base64.b64decode(text.strip(), validate=True).decode("ascii").partition(":")
        if not colon:
            raise ValueError
    except (binascii.Error, ValueError):
        raise OAuthError("invalid_client", "the Authorization header is no Basic credential", 401) from None
    return unquote_plus(name), unquote_plus(secret)


def read_scope(text: str | None) -> list[str] | None:
    """Names of the `scope` parameter (section 3.3). Raises OAuthError."""
    if text is None:
        return None
    wanted = set(text.split(" "))
    if not wanted <= _SCOPES:
        raise OAuthError("invalid_scope", "scope: names like nodes:read, separated by single spaces")
    return sorted(wanted)


async def by_secret(context: Context, client_id: str, secret: str) -> tuple[ServiceAccount, ServiceAccountSecret]:
    """Raises OAuthError, which is the same whatever was wrong."""
    parts = split_bearer(secret, "vnc", "sas")
    async with read_session(context.engine) as session:
        row = await SecretRepository(session).by_id(parts[0]) if parts else None
        account = await ServiceAccountRepository(session).by_id(client_id)
    if parts is None or row is None or account is None or row.service_account_id != account.id:
        raise refused()
    if row.expires_at <= context.clock() or account.suspended_at is not None:
        raise refused()
    if not await asyncio.to_thread(slow_matches, parts[1], row.hash):
        raise refused()
    return account, row


async def by_assertion(context: Context, text: str) -> ServiceAccount:
    """The account with exactly this issuer and subject. Raises OAuthError."""
    async with read_session(context.engine) as session:
        provider = await IdentityProviderRepository(session).by_issuer(_claimed_issuer(text))
        if provider is None or provider.disabled_at is not None:
            raise OAuthError("invalid_client", "the assertion's issuer is not configured here", 401)
    try:
        found = await context.provider_keys.verify(text, provider.issuer, provider.client_id, context.clock())
    except TokenRefused as error:
        raise OAuthError("invalid_client", str(error), 401) from None
    except ProviderError:
        raise OAuthError("temporarily_unavailable", f"{provider.name} did not answer as it should", 503) from None
    async with read_session(context.engine) as session:
        account = await ServiceAccountRepository(session).by_identity(found.issuer, found.subject)
    if account is None or account.suspended_at is not None:
        raise OAuthError("invalid_client", "no service account has the assertion's issuer and subject", 401)
    return account


def _claimed_issuer(text: str) -> str:
    """Not believed: it only chooses among the configured providers, whose keys decide."""
    try:
        part = text[:TOKEN_MAX].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        issuer = claims["iss"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise OAuthError("invalid_client", "client_assertion is no signed token", 401) from None
    return issuer if isinstance(issuer, str) and "\0" not in issuer else ""


async def issue(
    context: Context, account: ServiceAccount, used: ServiceAccountSecret | None, scope: list[str] | None, source: str
) -> Granted:
    """An access token that may do what the account may, and within `scope`."""
    secret = new_secret()
    hashed = await asyncio.to_thread(slow_hash, secret)
    principal = Principal("service_account", account.id, account.name, source=source)
    async with write_session(context.engine, context.hub) as session:
        call = Call(context, session, principal, "issue_access_token", None)
        tokens = ApiTokenRepository(session)
        row = await tokens.add(_row(account, hashed, scope, call.now))
        if used is not None:
            await SecretRepository(session).touch(used.id, call.now)
        call.audit(row.id, None)
    return Granted(bearer("vnt", row.id, secret), LIFE, None if scope is None else " ".join(scope))


def _row(account: ServiceAccount, hashed: str, scope: list[str] | None, now: int) -> ApiToken:
    return ApiToken(
        id=new_id("apt"),
        name="client credentials",
        hash=hashed,
        kind="access",
        owner_id=account.id,
        created_by=account.id,
        provider_groups=[],
        grants=[],
        scopes=scope,
        created_at=now,
        expires_at=now + LIFE,
        last_used_at=None,
        revoked_at=None,
    )
