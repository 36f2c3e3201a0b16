# SPDX-License-Identifier: Apache-2.0
"""One request as its service sees it: who calls, in which transaction, what it may touch, what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.audit.models import AuditEvent
from veilnet.api.audit.service import record
from veilnet.api.context import Context
from veilnet.api.errors import Forbidden, NotFound
from veilnet.api.ids import new_id
from veilnet.api.nodes.repository import Caller
from veilnet.api.outbox.service import emit
from veilnet.api.platform.preconditions import check_if_match
from veilnet.api.platform.principal import Principal
from veilnet.api.platform.redaction import diff
from veilnet.api.platform.request_id import current_request_id
from veilnet.api.platform.roles import RealmIds, Resource, Verb, scope_name


class Row(Protocol):
    """What `Call.match` and `Call.show` need of a model."""

    row_version: Any


@dataclass
class Call:
    context: Context
    session: AsyncSession
    principal: Principal
    operation_id: str
    realms: RealmIds
    """Where the caller may do what this route does: None is everywhere."""
    resource: Resource | None = None
    verb: Verb | None = None
    if_match: str | None = None
    list_key: str = ""
    """Digest of path and filters; what a cursor is bound to."""
    prepared: Any = None
    """What the route's `before` found out, before there was a transaction."""
    shown: Row | str | None = field(default=None, init=False)
    matched: bool = field(default=False, init=False)
    next_link: str | None = field(default=None, init=False)
    audited: bool = field(default=False, init=False)

    @property
    def now(self) -> int:
        """Unix seconds."""
        return self.context.clock()

    @property
    def node(self) -> Caller:
        """The calling node of a node's own route."""
        assert self.principal.node is not None
        return self.principal.node

    # ---- authorisation -------------------------------------------------------------------------------------------

    def check_realm(self, realm_id: str | None, what: str, name: str, verb: Verb | None = None) -> None:
        """Refuse a row of this realm unless the caller may do this (or `verb`) there: 404 if it may not even read it,
        else 403."""
        verb = verb or self.verb
        if self.resource is None or verb is None or self.principal.may(self.resource, verb, realm_id):
            return
        if self.principal.may(self.resource, Verb.READ, realm_id):
            raise Forbidden("forbidden", f"{what} {name}: you may read it, but not {verb} {self.resource} there")
        raise NotFound(what, name)

    def check_everywhere(self) -> None:
        """For what belongs to no realm, or makes one: a grant in single realms is not enough."""
        if self.realms is not None and self.resource is not None and self.verb is not None:
            raise Forbidden("forbidden", f"needs {scope_name(self.resource, self.verb)} in every realm")

    # ---- concurrency ---------------------------------------------------------------------------------------------

    def match(self, row: Row | str) -> None:
        """Check If-Match against what is about to be changed. Every PUT, PATCH and DELETE calls this."""
        check_if_match(self.if_match, row if isinstance(row, str) else str(row.row_version))
        self.matched = True

    def show(self, row: Row | str) -> None:
        """Name the version of what the answer shows; it becomes the ETag."""
        self.shown = row

    @property
    def version(self) -> str | None:
        """Read after the flush, which raises it."""
        return self.shown if self.shown is None or isinstance(self.shown, str) else str(self.shown.row_version)

    # ---- what happened -------------------------------------------------------------------------------------------

    def audit(
        self, subject: str, realm_id: str | None, before: BaseModel | None = None, after: BaseModel | None = None
    ) -> None:
        """Note what this mutation changed. Once per request; the entry is written even without it."""
        assert not self.audited, "one audit entry per mutation"
        self._record(subject, realm_id, diff(before, after))

    def audit_one_of_several(
        self, subject: str, realm_id: str | None, before: BaseModel | None = None, after: BaseModel | None = None
    ) -> None:
        """As `audit`, for requests that change many things: each has an entry of its own."""
        self._record(subject, realm_id, diff(before, after))

    def emit(self, kind: str, realm_id: str | None, subject: str, data: Mapping[str, Any] | None = None) -> None:
        """Send an event, for example `node.revoked`, when this transaction is committed."""
        emit(self.session, kind, realm_id, subject, data or {}, self.now)

    def finish_audit(self) -> None:
        """Called at the end of every mutation: no route escapes the audit."""
        if not self.audited:
            self._record(None, None, {})

    def _record(self, subject: str | None, realm_id: str | None, changes: dict[str, Any]) -> None:
        self.audited = True
        who = self.principal
        entry = AuditEvent(
            id=new_id("aud"),
            created_at=self.now,
            realm_id=realm_id,
            action=self.operation_id,
            actor_kind=who.kind,
            actor_id=who.id,
            actor_name=who.name,
            token_id=who.token_id,
            request_id=current_request_id(),
            source=who.source,
            subject=subject,
            changes=changes,
        )
        record(self.session, entry)


async def get_call(request: Request) -> Call:
    """Async, as FastAPI hands plain functions to a thread."""
    call: Call = request.state.call
    return call


CallDep = Annotated[Call, Depends(get_call)]
