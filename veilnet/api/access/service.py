# SPDX-License-Identifier: Apache-2.0
"""Who is calling: administrators and nodes, both by bearer."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.cache import VerifiedTokens
from veilnet.api.access.models import AdminToken
from veilnet.api.access.repository import AdminTokenRepository
from veilnet.api.errors import Forbidden, Unauthorized
from veilnet.api.ids import new_id
from veilnet.api.nodes.models import Node
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.secrets import bearer, new_secret, quick_matches, slow_hash, slow_matches, split_bearer

_REFUSED = "the credential is not known here"


async def create_admin_token(session: AsyncSession, name: str, now: int) -> str:
    """Text of a new administrator token; only its hash stays."""
    row_id, secret = new_id("adm"), new_secret()
    row = AdminToken(id=row_id, name=name, hash=slow_hash(secret), created_at=now, revoked_at=None)
    await AdminTokenRepository(session).add(row)
    return bearer("vnt", row_id, secret)


async def admin_of(session: AsyncSession, verified: VerifiedTokens, text: str) -> AdminToken:
    parts = split_bearer(text, "vnt", "adm")
    row = await AdminTokenRepository(session).by_id(parts[0]) if parts else None
    if parts is None or row is None or row.revoked_at is not None:
        raise Unauthorized("unauthorized", _REFUSED)
    if not verified.knows(text, row.hash):
        if not await asyncio.to_thread(slow_matches, parts[1], row.hash):
            raise Unauthorized("unauthorized", _REFUSED)
        verified.remember(text, row.hash)
    return row


async def node_of(session: AsyncSession, text: str) -> Node:
    parts = split_bearer(text, "vnn", "nod")
    row = await NodeRepository(session).by_id(parts[0]) if parts else None
    if parts is None or row is None or not quick_matches(parts[1], row.credential_hash):
        raise Unauthorized("unauthorized", _REFUSED)
    if row.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {row.name} was revoked; enrol it again with a new token")
    return row
