# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, String, bindparam, cast, func, select, update
from sqlalchemy.orm import defer

from veilnet.api.db import Repository
from veilnet.api.nodes.models import MEMBER, Node
from veilnet.api.nodes.schemas import NodeFilter
from veilnet.api.platform.roles import RealmIds

_STATES: Final = {
    "pending": (Node.revoked_at.is_(None), Node.expired_at.is_(None), Node.approved_at.is_(None)),
    "active": MEMBER,
    "expired": (Node.revoked_at.is_(None), Node.expired_at.is_not(None)),
    "revoked": (Node.revoked_at.is_not(None),),
}
_NEVER: Final = 2**62
"""Later than any time: in SQL, a maximum knows no NULL."""


class Caller(NamedTuple):
    """Of a node that calls, what every one of its requests needs: not the rows' documents of 14 KB."""

    id: str
    realm_id: str
    node_id: str
    name: str
    credential_hash: str
    certificate_not_after: int
    ephemeral: bool
    revoked_at: int | None
    expired_at: int | None


class Described(NamedTuple):
    """A node's descriptor as it is held, and what the next one is compared with."""

    realm_id: str
    public_key: str
    descriptor: dict[str, str]
    descriptor_serial: int
    descriptor_expires: int
    revoked_at: int | None
    expired_at: int | None


_TABLE: Final = Node.metadata.tables["nodes"]  # without the ORM: what a Master does most
_OWN: Final = _TABLE.c.id == bindparam("row_id")
_CALLER: Final = select(*(_TABLE.c[name] for name in Caller._fields)).where(_OWN)
_DESCRIBED: Final = (
    select(_TABLE.c.id, *(_TABLE.c[name] for name in Described._fields))
    .where(_TABLE.c.id.in_(bindparam("row_ids", expanding=True)))
    .order_by(_TABLE.c.id)
)
_LOCKED: Final = _DESCRIBED.with_for_update(key_share=True)
_CHANGE: Final = update(_TABLE).where(_OWN)  # of the columns that the values name


class NodeRepository(Repository[Node]):
    model = Node

    def of_realm(self, realm_id: str | None) -> Select[Node]:
        query = self.all()
        return query if realm_id is None else query.where(Node.realm_id == realm_id)

    def filtered(self, realms: RealmIds, filters: NodeFilter) -> Select[Node]:
        query = self.all().where(Node.deleted_at.is_(None))
        if realms is not None:
            query = query.where(Node.realm_id.in_(realms))
        if filters.role is not None:
            query = query.where(cast(Node.roles, String).contains(f'"{filters.role}"'))
        if filters.state is not None:
            query = query.where(*_STATES[filters.state])
        if filters.taint is not None:
            query = query.where(cast(Node.taints, String).contains(f'"{filters.taint}"', autoescape=True))
        if filters.draining is not None:
            query = query.where(Node.drained_at.is_not(None) if filters.draining else Node.drained_at.is_(None))
        if filters.q is not None:
            query = query.where(Node.name.contains(filters.q, autoescape=True))
        return query

    async def page(self, query: Select[Node], limit: int, after: tuple[int, str] | None) -> tuple[list[Node], bool]:
        """Without keys, certificates and descriptors, 17 KB a row, which no list shows."""
        unseen = (defer(Node.public_key), defer(Node.certificate), defer(Node.descriptor))
        return await super().page(query.options(*unseen), limit, after)

    async def of_token(self, token_id: str) -> list[Node]:
        """Nodes that this enrolment token brought and that are not revoked."""
        query = self.all().where(Node.token_id == token_id, Node.revoked_at.is_(None)).order_by(Node.id)
        return list(await self.session.scalars(query))

    async def count_not_revoked(self, realm_id: str) -> int:
        query = select(func.count()).select_from(Node).where(Node.realm_id == realm_id, Node.revoked_at.is_(None))
        return await self.session.scalar(query) or 0

    async def alive(self, realm_id: str) -> list[Node]:
        query = self.of_realm(realm_id).where(Node.revoked_at.is_(None)).order_by(Node.id)
        return list(await self.session.scalars(query))

    async def caller(self, row_id: str) -> Caller | None:
        row = (await self.session.execute(_CALLER, {"row_id": row_id})).first()
        return None if row is None else Caller(*row)

    async def described(self, row_id: str) -> Described | None:
        row = (await self.session.execute(_DESCRIBED, {"row_ids": [row_id]})).first()
        return None if row is None else Described(*row[1:])

    async def described_for_change(self, row_ids: Collection[str]) -> dict[str, Described]:
        """By row id, their rows locked in the one order in which nobody waits for another in a circle."""
        found = await self.session.execute(_LOCKED, {"row_ids": sorted(row_ids)})
        return {row[0]: Described(*row[1:]) for row in found}

    async def describe(self, rows: Sequence[tuple[str, dict[str, Any], int, int]]) -> None:
        """Other descriptors (row id, document, serial, end), without new versions: nobody configured anything."""
        names = ("row_id", "descriptor", "descriptor_serial", "descriptor_expires")
        values = [dict(zip(names, row, strict=True)) for row in rows]
        await self.session.execute(_CHANGE, values if len(values) > 1 else values[0])

    async def of_ids(self, row_ids: Collection[str], realms: RealmIds) -> list[Node]:
        """Those in these realms."""
        query = self.all().where(Node.id.in_(row_ids))
        return list(await self.session.scalars(query if realms is None else query.where(Node.realm_id.in_(realms))))

    async def lock(self, row_ids: Collection[str]) -> None:
        """As `locked`, for several, in the one order in which nobody waits for another in a circle."""
        query = self.all().where(Node.id.in_(row_ids)).order_by(Node.id).with_for_update(key_share=True)
        await self.session.scalars(query, execution_options={"populate_existing": True})

    async def by_identity(self, node_id: str) -> Node | None:
        return await self.session.scalar(select(Node).where(Node.node_id == node_id))

    async def named(self, realm_id: str, id_or_name: str) -> Node | None:
        """A node that is not revoked, by name, by id or by its id on the wire."""
        query = self.of_realm(realm_id).where(
            Node.revoked_at.is_(None),
            (Node.id == id_or_name) | (Node.name == id_or_name) | (Node.node_id == id_or_name),
        )
        return await self.session.scalar(query)

    async def touch(self, seen: Mapping[str, int]) -> None:
        """Note when nodes (row id → unix seconds) were here, without a new version: nobody configured anything."""
        rows = [{"row_id": row_id, "last_seen_at": now} for row_id, now in sorted(seen.items())]  # locks in one order
        await self.session.execute(_CHANGE, rows)

    async def used_ipv4(self, realm_id: str) -> dict[str, int | None]:
        """Address → None if a node has it, else when the last node that had it gave it up."""
        ended = func.max(func.coalesce(Node.revoked_at, _NEVER))
        found = await self.session.execute(
            select(Node.ipv4, ended).where(Node.realm_id == realm_id).group_by(Node.ipv4)
        )
        return {ipv4: None if when == _NEVER else when for ipv4, when in found}
