# SPDX-License-Identifier: Apache-2.0
"""What time alone has made due."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, delete, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.access.models import ApiToken
from veilnet.api.nodes.models import Node
from veilnet.api.oauth.models import ServiceAccountSecret
from veilnet.api.realms.models import Realm
from veilnet.api.settings import MasterSettings
from veilnet.api.snapshots.models import DirectoryChange, DirectoryRecord
from veilnet.api.times import DAY
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.api.upkeep.models import ExpiryNotice, ReplicaSeen


class Ending(NamedTuple):
    """Something that ends. `begun_at`: since when this end stands."""

    subject: str
    realm_id: str | None
    begun_at: int
    ends_at: int
    name: str


class Due(NamedTuple):
    node_id: str
    realm_id: str


def _of_realm(own: Any, master: int) -> Any:
    """What counts in a node's realm."""
    return func.coalesce(select(own).where(Realm.id == Node.realm_id).correlate(Node).scalar_subquery(), master)


def _longest(own: Any, master: int) -> Any:
    """Of all realms, so that nodes can be found by index before each one's own counts."""
    return select(func.max(func.coalesce(own, master))).scalar_subquery()


_NOT_OUT = (Node.revoked_at.is_(None), Node.expired_at.is_(None))


class UpkeepRepository:
    def __init__(self, session: AsyncSession, settings: MasterSettings) -> None:
        self.session = session
        self._settings = settings
        self._life = _of_realm(Realm.certificate_seconds, settings.certificate_seconds)
        self._grace = _of_realm(Realm.grace_seconds, settings.grace_seconds)

    # ---- replicas --------------------------------------------------------------------------------------------------

    async def stand(self, name: str, now: int, since: int) -> int:
        """Notes that this replica can write; the longest absence that those go by which could since `since`."""
        await self.session.merge(
            ReplicaSeen(name=name, seen_at=now, ephemeral_seconds=self._settings.ephemeral_seconds)
        )
        await self.session.execute(delete(ReplicaSeen).where(ReplicaSeen.seen_at < now - DAY))
        longest = select(func.max(ReplicaSeen.ephemeral_seconds)).where(ReplicaSeen.seen_at >= since)
        return int((await self.session.execute(longest)).scalar_one())

    # ---- nodes -----------------------------------------------------------------------------------------------------

    async def expired(self, now: int, limit: int) -> list[Due]:
        query = select(Node.id, Node.realm_id).where(Node.expires_at <= now, *_NOT_OUT)
        return await self._due(query.limit(limit))

    async def absent(self, now: int, counts_from: int, master_max: int, limit: int) -> list[Due]:
        """Ephemeral nodes that were away for too long since `counts_from`, by one rule. `master_max`: seconds, where
        the realm has none of its own."""
        seen = func.coalesce(Node.last_seen_at, Node.created_at)
        changed_at = _of_realm(Realm.lifetimes_changed_at, 0)
        away_max = _of_realm(Realm.ephemeral_seconds, master_max)
        too_long = (since + away_max <= now for since in (seen, changed_at, literal(counts_from, BigInteger)))
        query = select(Node.id, Node.realm_id).where(Node.ephemeral, Node.revoked_at.is_(None), *too_long)
        return await self._due(query.limit(limit))

    async def forgettable(self, ended: int, limit: int) -> list[Due]:
        """Deleted nodes of which nothing that was or could have been certified counted after `ended`."""
        deleted = Node.deleted_at <= ended - self._settings.certificate_seconds
        others = (Node.deleted_at + self._life <= ended, Node.certificates_until <= ended)
        return await self._due(select(Node.id, Node.realm_id).where(deleted, *others).limit(limit))

    async def _due(self, query: Any) -> list[Due]:
        return [Due(*row) for row in await self.session.execute(query)]

    async def forget_node(self, row: Node) -> None:
        """Row, record and what was noted of it; its edges went when it was revoked."""
        for table in (DirectoryChange, DirectoryRecord):
            await self.session.execute(delete(table).where(table.node_id == row.id))
        await self.session.delete(row)
        await self.session.flush()

    # ---- ends --------------------------------------------------------------------------------------------------------

    async def nodes_to_expire(self, now: int, until: int) -> list[Ending]:
        when = (Node.expires_at > now, Node.expires_at <= until, *_NOT_OUT)
        return await self._endings(select(Node.id, Node.realm_id, Node.created_at, Node.expires_at, Node.name), when)

    async def certificates(self, now: int) -> list[Ending]:
        """Those that should have been renewed by now, at half of their life: what is left then is what counts. Ends
        that were asked for are others'."""
        ends, half = Node.certificate_not_after, self._life // 2
        asked = or_(Node.expires_at.is_(None), Node.expires_at > ends)
        soon = now + _longest(Realm.certificate_seconds, self._settings.certificate_seconds) // 2
        when = (ends > now, ends <= soon, ends - half <= now, Node.approved_at.is_not(None), *_NOT_OUT, asked)
        return await self._endings(select(Node.id, Node.realm_id, ends - half, ends, Node.name), when)

    async def credentials(self, now: int) -> list[Ending]:
        """Of nodes whose certificate has ended and that may still come back."""
        ended, ends = Node.certificate_not_after, Node.certificate_not_after + self._grace
        longest = _longest(Realm.grace_seconds, self._settings.grace_seconds)
        when = (ended <= now, ended > now - longest, ends > now, *_NOT_OUT)
        return await self._endings(select(Node.id, Node.realm_id, ended, ends, Node.name), when)

    async def api_tokens(self, now: int, until: int) -> list[Ending]:
        row = ApiToken
        when = (row.expires_at > now, row.expires_at <= until, row.revoked_at.is_(None), row.kind == "standing")
        found = await self._endings(select(row.id, row.id, row.created_at, row.expires_at, row.name), when)
        return [ending._replace(realm_id=None) for ending in found]

    async def client_secrets(self, now: int, until: int) -> list[Ending]:
        row = ServiceAccountSecret
        when = (row.expires_at > now, row.expires_at <= until)
        query = select(row.id, row.id, row.created_at, row.expires_at, row.service_account_id)
        return [ending._replace(realm_id=None) for ending in await self._endings(query, when)]

    async def enrolment_tokens(self, now: int, until: int) -> list[Ending]:
        row = EnrolmentToken
        left = or_(row.usage_limit.is_(None), row.used < row.usage_limit)
        when = (row.expires_at > now, row.expires_at <= until, row.revoked_at.is_(None), left)
        name = func.coalesce(row.node_name, row.id)
        return await self._endings(select(row.id, row.realm_id, row.created_at, row.expires_at, name), when)

    async def _endings(self, query: Any, when: Collection[Any]) -> list[Ending]:
        return [Ending(*row) for row in await self.session.execute(query.where(*when))]

    # ---- notices -----------------------------------------------------------------------------------------------------

    async def note(self, notices: Collection[tuple[str, str, int, int]]) -> set[tuple[str, str, int, int]]:
        """Of these (subject, kind, ends_at, days), those that nobody had noted: they are the caller's to announce."""
        if not notices:
            return set()
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        names = ("subject", "kind", "ends_at", "days")
        rows = [dict(zip(names, notice, strict=True)) for notice in sorted(notices)]
        query = dialect.insert(ExpiryNotice).values(rows).on_conflict_do_nothing()
        found = await self.session.execute(query.returning(*(getattr(ExpiryNotice, name) for name in names)))
        return {(subject, kind, ends_at, days) for subject, kind, ends_at, days in found}

    async def forget_notices(self, before: int) -> None:
        await self.session.execute(delete(ExpiryNotice).where(ExpiryNotice.ends_at < before))
