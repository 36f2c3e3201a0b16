# SPDX-License-Identifier: Apache-2.0
"""A person's ID token becomes a short-lived token of this Master.

What asks the provider (`prepare`) runs before the request's transaction: no writer waits for somebody else's server.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import ValidationError
from starlette.requests import Request

from veilnet.api.access.models import ApiToken
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.models import User
from veilnet.api.accounts.repository import ServiceAccountRepository, UserRepository
from veilnet.api.accounts.service import USERS
from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.errors import Forbidden, Invalid, Unauthorized, Unavailable
from veilnet.api.identity.models import IdentityProvider
from veilnet.api.identity.repository import IdentityProviderRepository, UsedIdTokenRepository
from veilnet.api.identity.schemas import SessionCreate, SessionCreated
from veilnet.api.identity.service import PURPOSE
from veilnet.api.ids import new_id
from veilnet.api.platform.access import source_of
from veilnet.api.platform.call import Call
from veilnet.api.platform.principal import Principal
from veilnet.api.secrets import bearer, new_secret, slow_hash
from veilnet.api.settings import SetupError
from veilnet.oidc import device, fetch
from veilnet.oidc.errors import ProviderError, TokenRefused
from veilnet.oidc.id_token import CLOCK_SKEW, Identity
from veilnet.oidc.pkce import Client

_log: Any = structlog.get_logger("veilnet.api")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9 ._@+-]+")


@dataclass(frozen=True)
class Proven:
    """What a provider says about the caller, verified."""

    provider_id: str
    identity: Identity
    digest: str
    """Of what the provider signed: whoever has the token can write its signature in several ways, but not this."""
    secret: str
    hash: str
    """The new token's; made here because the slow hash needs no transaction."""


async def prepare(context: Context, request: Request) -> Proven | None:
    """None for a body that the schema will refuse. Raises Unauthorized, Unavailable, TooMany."""
    context.limiter.take("login", source_of(request))
    try:
        body = SessionCreate.model_validate_json(await request.body())
    except ValidationError:
        return None
    _check_kind(body)
    provider = await _provider(context, body.provider_id)
    try:
        text = body.id_token or await _redeemed(context, provider, body)
        identity = await context.provider_keys.verify(
            text,
            provider.issuer,
            provider.client_id,
            context.clock(),
            nonce=body.nonce,
            groups_claim=provider.groups_claim,
        )
    except TokenRefused as error:
        _log.warning("login-refused", provider=provider.name, why=str(error), source=source_of(request))
        raise Unauthorized("login-refused", str(error)) from None
    except (ProviderError, SetupError) as error:
        _log.warning("provider-unavailable", provider=provider.name, why=str(error))
        detail = f"the provider {provider.name} did not answer as it should: try again later"
        raise Unavailable(detail, "provider-unavailable") from None
    secret = new_secret()
    signed = text.rpartition(".")[0]
    hashed = await asyncio.to_thread(slow_hash, secret)
    return Proven(provider.id, identity, hashlib.sha256(signed.encode()).hexdigest(), secret, hashed)


def _check_kind(body: SessionCreate) -> None:
    redeeming = (body.code, body.code_verifier, body.redirect_uri, body.nonce)
    if body.id_token is None and None not in redeeming:
        return
    if body.id_token is None or any(item is not None for item in redeeming[:3]):
        raise Invalid("invalid", "send id_token, or all of code, code_verifier, redirect_uri and nonce")


async def _provider(context: Context, provider_id: str) -> IdentityProvider:
    async with read_session(context.engine) as session:
        row = await IdentityProviderRepository(session).by_id(provider_id)
    return _in_use(row)


def _in_use(row: IdentityProvider | None) -> IdentityProvider:
    if row is None or row.disabled_at is not None:
        raise Unauthorized("login-refused", "no such identity provider is in use here: ask for the list again")
    return row


async def _redeemed(context: Context, provider: IdentityProvider, body: SessionCreate) -> str:
    """ID token for an authorization code (RFC 6749 section 4.1.3), with the secret that only the Master has."""
    if provider.client_secret is None:
        raise TokenRefused("this provider's logins end at the command line: send the id_token")
    metadata = await context.provider_keys.metadata(provider.issuer)
    client = Client(provider.client_id, context.sealer.open(provider.client_secret, PURPOSE).decode())
    form = client.form(
        grant_type="authorization_code",
        code=body.code or "",
        redirect_uri=body.redirect_uri or "",
        code_verifier=body.code_verifier or "",
    )
    status, answer = await asyncio.to_thread(fetch.post_form, metadata.token_endpoint, form)
    if status != 200:
        raise TokenRefused(f"the provider did not redeem the code: HTTP status {status}")
    return device.id_token(answer)


async def create_session(call: Call, proven: Proven) -> SessionCreated:
    provider = _in_use(await IdentityProviderRepository(call.session).by_id(proven.provider_id))
    ends = proven.identity.expires + CLOCK_SKEW
    if not await UsedIdTokenRepository(call.session).take(proven.digest, ends):
        raise Unauthorized("login-refused", "this ID token was used before: sign in again")
    user = await _user(call, provider, proven.identity)
    tokens = ApiTokenRepository(call.session)
    row = ApiToken(
        id=new_id("apt"),
        name=f"login through {provider.name}",
        hash=proven.hash,
        kind="session",
        owner_id=user.id,
        created_by=user.id,
        provider_id=provider.id,
        provider_groups=list(proven.identity.groups),
        grants=[],
        scopes=None,
        created_at=call.now,
        expires_at=call.now + provider.session_seconds,
        last_used_at=None,
        revoked_at=None,
    )
    await tokens.add(row)
    await UserRepository(call.session).note_login(user.id, call.now)
    call.emit("user.logged_in", None, user.id, {"provider": provider.name})
    return SessionCreated(
        id=row.id,
        user_id=user.id,
        user_name=user.name,
        expires_at=datetime.fromtimestamp(row.expires_at, UTC),
        token=bearer("vnt", row.id, proven.secret),
    )


async def _user(call: Call, provider: IdentityProvider, identity: Identity) -> User:
    """The person, made now if the provider's settings say so; from here on they are the one who acts."""
    users = UserRepository(call.session)
    user = await users.by_identity(identity.issuer, identity.subject)
    made = user is None and provider.creates_users
    if made and await ServiceAccountRepository(call.session).by_identity(identity.issuer, identity.subject) is None:
        user = await users.add(await _new_user(call, identity))
    if user is None:
        raise Forbidden(
            "login-refused",
            f"nobody here is {identity.subject!r} of {identity.issuer}: an administrator has to make a user with this"
            " issuer and subject first",
        )
    if user.suspended_at is not None:
        raise Forbidden("login-refused", f"the user {user.name} is suspended")
    call.principal = Principal("user", user.id, user.name, source=call.principal.source)
    call.audit(user.id, None, after=USERS.out(user) if made else None)
    return user


async def _new_user(call: Call, identity: Identity) -> User:
    name = _UNFIT.sub("-", identity.email or identity.name or identity.subject).strip(" ._@+-")[:100] or "user"
    if await UserRepository(call.session).named(name) is not None:
        name = f"{name}-{secrets.token_hex(4)}"
    return User(
        id=new_id("usr"),
        name=name,
        email=identity.email,
        issuer=identity.issuer,
        subject=identity.subject,
        grants=[],
        suspended_at=None,
        last_login_at=None,
        created_at=call.now,
    )
