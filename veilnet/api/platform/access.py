# SPDX-License-Identifier: Apache-2.0
"""What a route needs, and finding out who calls it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.access.service import REFUSED, TOUCH_SECONDS, api_token_of, node_of, token_principal
from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.errors import ApiError, Forbidden, Unauthorized
from veilnet.api.nodes.repository import Caller
from veilnet.api.platform.principal import Principal, anonymous
from veilnet.api.platform.roles import RealmIds, Resource, Verb, scope_name
from veilnet.api.snapshots.certificates import lapsed

Who = Literal["administrator", "node", "anybody"]


@dataclass(frozen=True)
class Rule:
    """`administrator` routes name a resource and a verb; a node's own routes and open ones say so."""

    who: Who
    resource: Resource | None = None
    verb: Verb | None = None

    @property
    def scope(self) -> str:
        """As in OpenAPI's `x-required-scope`."""
        return scope_name(self.resource, self.verb) if self.resource and self.verb else self.who


NODE: Final = Rule("node")
ANYBODY: Final = Rule("anybody")
ANY_ADMINISTRATOR: Final = Rule("administrator")
"""Whoever has a good API token, whatever its roles."""


def source_of(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else "unknown"


def bearer_text(connection: HTTPConnection) -> str:
    scheme, _, text = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Unauthorized("unauthorized", "send `Authorization: Bearer <credential>`")
    return text.strip()


async def identify(context: Context, connection: HTTPConnection, rule: Rule, *, writes: bool) -> Principal:
    """The caller; takes one from its rate bucket. A refused credential takes one from its source address's."""
    source = source_of(connection)
    if rule.who == "anybody":
        context.limiter.take("anonymous", source)
        return anonymous(source)
    try:
        text = bearer_text(connection)
        found = await (_node if rule.who == "node" else _administrator)(context, text, source)
    except ApiError:
        context.limiter.take("anonymous", source)
        raise
    context.limiter.take("write" if writes else "read", found.id)
    return found


async def _node(context: Context, text: str, source: str) -> Principal:
    async with read_session(context.engine) as session:
        node = await node_of(session, text)
    await _check_grace(node, context)
    return Principal("node", node.id, node.name, node=node, source=source)


async def _check_grace(node: Caller, context: Context) -> None:
    """A node may come late, but not for ever."""
    grace = (await context.lifetimes.of(node.realm_id)).grace
    if lapsed(node.certificate_not_after, context.clock(), grace):
        detail = f"node {node.name}'s certificate ended too long ago: renew it (`veilnet node renew`) or enrol again"
        raise Forbidden("certificate-lapsed", detail)


async def _administrator(context: Context, text: str, source: str) -> Principal:
    if not text.startswith("vnt_"):
        raise Unauthorized("unauthorized", REFUSED)
    now = context.clock()

    def before_hashing() -> None:
        context.limiter.take("anonymous", source)

    async with read_session(context.engine) as session:
        row = await api_token_of(session, context.verified, text, now, before_hashing)
        principal = await token_principal(session, row, source)
    if row.last_used_at is None or now - row.last_used_at >= TOUCH_SECONDS:
        with contextlib.suppress(SQLAlchemyError, OSError):  # a database that takes no writes still answers reads
            async with write_session(context.engine, context.hub) as session:
                await ApiTokenRepository(session).touch(row.id, now)
    return principal


def authorise(principal: Principal, rule: Rule) -> RealmIds:
    """Where the caller may do this. Raises Forbidden if nowhere."""
    if rule.resource is None or rule.verb is None:
        return None
    realms = principal.realms(rule.resource, rule.verb)
    if realms is not None and not realms:
        raise Forbidden("forbidden", f"needs the scope {rule.scope}, which none of your roles gives")
    return realms
