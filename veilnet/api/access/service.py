# SPDX-License-Identifier: Apache-2.0
"""Who is calling: API tokens and nodes, both by bearer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.cache import VerifiedTokens
from veilnet.api.access.models import ApiToken
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.repository import GroupRepository, ServiceAccountRepository, UserRepository
from veilnet.api.errors import Forbidden, Unauthorized
from veilnet.api.identity.repository import IdentityProviderRepository
from veilnet.api.ids import new_id
from veilnet.api.nodes.repository import Caller, NodeRepository
from veilnet.api.platform.principal import Principal
from veilnet.api.platform.roles import Grant, Role
from veilnet.api.secrets import bearer, new_secret, quick_matches, slow_hash, slow_matches, split_bearer
from veilnet.api.times import DAY

REFUSED: Final = "the credential is not known here, has expired or was revoked"
TOKEN_LIFE_MAX: Final = 365 * DAY
TOUCH_SECONDS: Final = 60
"""`last_used_at` is that exact."""
OWNER: Final = (Grant(Role.OWNER),)


async def create_api_token(
    session: AsyncSession, name: str, now: int, *, grants: Sequence[Grant] = OWNER, life: int = TOKEN_LIFE_MAX
) -> str:
    """Text of a new token without an owner; only its hash stays."""
    row_id, secret = new_id("apt"), new_secret()
    row = ApiToken(
        id=row_id,
        name=name,
        hash=slow_hash(secret),
        kind="standing",
        owner_id=None,
        grants=[grant_json(grant) for grant in grants],
        scopes=None,
        created_at=now,
        expires_at=now + life,
        last_used_at=None,
        revoked_at=None,
    )
    await ApiTokenRepository(session).add(row)
    return bearer("vnt", row_id, secret)


def grant_json(grant: Grant) -> dict[str, str | None]:
    return {"role": grant.role.value, "realm_id": grant.realm_id}


def read_grants(stored: Sequence[dict[str, Any]]) -> tuple[Grant, ...]:
    return tuple(Grant(Role(item["role"]), item["realm_id"]) for item in stored)


async def api_token_of(
    session: AsyncSession, verified: VerifiedTokens, text: str, now: int, before_hashing: Callable[[], None]
) -> ApiToken:
    """`before_hashing` may refuse (rate limit) before the slow hash is paid for a text that was not verified lately."""
    parts = split_bearer(text, "vnt", "apt")
    row = await ApiTokenRepository(session).by_id(parts[0]) if parts else None
    if parts is None or row is None or row.revoked_at is not None or row.expires_at <= now:
        raise Unauthorized("unauthorized", REFUSED)
    if not verified.knows(text, row.hash):
        before_hashing()
        if not await asyncio.to_thread(slow_matches, parts[1], row.hash):
            raise Unauthorized("unauthorized", REFUSED)
        verified.remember(text, row.hash)
    return row


async def token_principal(session: AsyncSession, row: ApiToken, source: str) -> Principal:
    """The token's owner if it has one, else the token. Raises Unauthorized when the owner is gone or suspended."""
    if row.kind == "session":
        return await _session_principal(session, row, source)
    scopes = None if row.scopes is None else frozenset(row.scopes)
    own = read_grants(row.grants)
    if row.owner_id is None:
        return Principal("api_token", row.id, row.name, (own,), scopes, row.id, source=source)
    if row.owner_id.startswith("usr_"):
        return replace(await user_principal(session, row.owner_id, source), scopes=scopes, token_id=row.id).within(own)
    account = await ServiceAccountRepository(session).by_id(row.owner_id)
    if account is None or account.suspended_at is not None:
        raise Unauthorized("unauthorized", REFUSED)
    layers = (read_grants(account.grants), *(() if row.kind == "access" else (own,)))
    return Principal("service_account", account.id, account.name, layers, scopes, row.id, source=source)


async def _session_principal(session: AsyncSession, row: ApiToken, source: str) -> Principal:
    """A person who signed in: their own grants, and those that the provider's groups have now."""
    providers = IdentityProviderRepository(session)
    provider = None if row.provider_id is None else await providers.by_id(row.provider_id)
    if row.owner_id is None or provider is None or provider.disabled_at is not None:
        raise Unauthorized("unauthorized", REFUSED)
    found = await user_principal(session, row.owner_id, source)
    mapped = [item["grants"] for item in provider.group_grants if item["group"] in row.provider_groups]
    grants = found.layers[0] + read_grants([grant for grants in mapped for grant in grants])
    return replace(found, layers=(grants,), token_id=row.id)


async def user_principal(session: AsyncSession, user_id: str, source: str) -> Principal:
    """A person, with the grants of its groups. Raises Unauthorized when it is gone or suspended."""
    user = await UserRepository(session).by_id(user_id)
    if user is None or user.suspended_at is not None:
        raise Unauthorized("unauthorized", REFUSED)
    groups = await GroupRepository(session).of_user(user.id)
    grants = read_grants([*user.grants, *(grant for group in groups for grant in group.grants)])
    return Principal("user", user.id, user.name, (grants,), source=source)


async def node_of(session: AsyncSession, text: str) -> Caller:
    parts = split_bearer(text, "vnn", "nod")
    row = await NodeRepository(session).caller(parts[0]) if parts else None
    if parts is None or row is None or not quick_matches(parts[1], row.credential_hash):
        raise Unauthorized("unauthorized", REFUSED)
    if row.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {row.name} was revoked; enrol it again with a new token")
    if row.expired_at is not None:
        remedy = f"an administrator renews it (`veilnet node renew {row.name}`), or enrol again with a new token"
        raise Forbidden("node-expired", f"node {row.name} has expired: {remedy}")
    return row
