# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from veilnet.api.nodes.models import MEMBER, Node
from veilnet.api.snapshots.models import DirectoryChange, DirectoryHead, DirectoryRecord
from veilnet.api.topology.models import Edge


class Known(NamedTuple):
    """A record without its document."""

    row_id: str
    version: int
    facts_version: int
    facts: dict[str, Any]
    gone: bool
    former: list[Any]


class Change(NamedTuple):
    """What has to be signed: a node's record, or the head."""

    id: int
    node_id: str | None


class Neighbour(NamedTuple):
    node_id: str
    roles: list[str]


_MARKS: Final = DirectoryChange.metadata.tables["directory_changes"]  # without the ORM: with every change of a fleet
_MARK: Final = insert(_MARKS)
_NEWEST: Final = select(func.max(_MARKS.c.id)).where(_MARKS.c.realm_id == bindparam("realm_id"))
_CHANGES: Final = (
    select(_MARKS.c.id, _MARKS.c.node_id)
    .where(_MARKS.c.realm_id == bindparam("realm_id"))
    .order_by(_MARKS.c.id)
    .limit(bindparam("most"))
)


class DirectoryRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    # ---- what has to be signed -------------------------------------------------------------------------------------

    async def mark(self, realm_id: str, node_ids: Collection[str | None]) -> None:
        rows = [{"realm_id": realm_id, "node_id": node_id} for node_id in node_ids]
        if rows:
            await self.session.execute(_MARK, rows if len(rows) > 1 else rows[0])

    async def changes(self, realm_id: str, limit: int) -> list[Change]:
        found = await self.session.execute(_CHANGES, {"realm_id": realm_id, "most": limit})
        return [Change(*row) for row in found]

    async def newest_change(self, realm_id: str) -> int:
        """Id of the last that waits; 0: nothing does."""
        return await self.session.scalar(_NEWEST, {"realm_id": realm_id}) or 0

    async def begin_again(self, realm_id: str) -> int:
        """Forget what was signed, and sign every node of the realm anew, its head last; how many nodes."""
        for table in (DirectoryChange, DirectoryRecord):
            await self.session.execute(delete(table).where(table.realm_id == realm_id))
        await self.session.execute(update(DirectoryHead).where(DirectoryHead.realm_id == realm_id).values(renew_at=0))
        nodes = await self.unrecorded(realm_id)
        await self.mark(realm_id, [*nodes, None])
        return len(nodes)

    async def done(self, changes: Collection[Change]) -> None:
        ids = [change.id for change in changes]
        await self.session.execute(delete(_MARKS).where(_MARKS.c.id.in_(ids)))

    async def due(self, realm_id: str, now: int, signer: str, limit: int) -> list[str]:
        """Nodes whose certificate is due, or whose record another key has signed."""
        query = select(DirectoryRecord.node_id).where(
            DirectoryRecord.realm_id == realm_id,
            ~DirectoryRecord.gone,
            or_(DirectoryRecord.renew_at <= now, DirectoryRecord.signer != signer),
        )
        return list(await self.session.scalars(query.order_by(DirectoryRecord.renew_at).limit(limit)))

    async def unrecorded(self, realm_id: str) -> list[str]:
        """Nodes of a database that is older than this table."""
        query = select(Node.id).outerjoin(DirectoryRecord, DirectoryRecord.node_id == Node.id)
        query = query.where(Node.realm_id == realm_id, *MEMBER, DirectoryRecord.node_id.is_(None))
        return list(await self.session.scalars(query))

    async def invalidate(self, realm_id: str) -> None:
        """No record counts as up to date: what is marked next is signed anew, whatever it says."""
        query = update(DirectoryRecord).where(DirectoryRecord.realm_id == realm_id, ~DirectoryRecord.gone)
        await self.session.execute(query.values(content=""))

    async def signed_by_others(self, realm_id: str, signer: str) -> int:
        query = select(DirectoryRecord.node_id).where(
            DirectoryRecord.realm_id == realm_id, ~DirectoryRecord.gone, DirectoryRecord.signer != signer
        )
        return len(list(await self.session.scalars(query)))

    # ---- records and head ------------------------------------------------------------------------------------------

    async def head(self, realm_id: str) -> DirectoryHead | None:
        return await self.session.get(DirectoryHead, realm_id)

    async def last_signed(self) -> int:
        """The latest time under which anything of any realm was signed; 0: nothing was."""
        return await self.session.scalar(select(func.max(DirectoryHead.signed_at))) or 0

    def add(self, row: DirectoryRecord | DirectoryHead) -> None:
        self.session.add(row)

    async def since(self, realm_id: str, version: int) -> list[DirectoryRecord]:
        query = select(DirectoryRecord).where(DirectoryRecord.realm_id == realm_id, DirectoryRecord.version > version)
        return list(await self.session.scalars(query.order_by(DirectoryRecord.version)))

    async def known(self, realm_id: str) -> list[Known]:
        r = DirectoryRecord
        columns = (r.node_id, r.version, r.facts_version, r.facts, r.gone, r.former)
        query = select(*columns).where(r.realm_id == realm_id)
        return [Known(*row) for row in await self.session.execute(query)]

    async def forget_gone(self, before: int, limit: int) -> int:
        """Drop tombstones whose end was before this time (unix seconds); how many."""
        gone = (DirectoryRecord.gone, DirectoryRecord.renew_at < before)
        ids = list(await self.session.scalars(select(DirectoryRecord.node_id).where(*gone).limit(limit)))
        await self.session.execute(delete(DirectoryRecord).where(DirectoryRecord.node_id.in_(ids)))
        return len(ids)

    async def documents(self, node_ids: Collection[str]) -> list[str]:
        query = select(DirectoryRecord.document).where(DirectoryRecord.node_id.in_(node_ids))
        return list(await self.session.scalars(query))

    # ---- what records are made of ----------------------------------------------------------------------------------

    async def alone(self, realm_id: str) -> None:
        """Wait until no other replica signs for this realm; one that is killed leaves at once. SQLite: one writer."""
        if self.session.get_bind().dialect.name == "postgresql":
            digest = hashlib.sha256(f"publish\n{realm_id}".encode()).digest()
            key = int.from_bytes(digest[:8], "big", signed=True)
            await self.session.execute(select(func.pg_advisory_xact_lock(key)))

    async def nodes(self, node_ids: Collection[str]) -> list[Node]:
        """Locked, and in one order."""
        query = select(Node).where(Node.id.in_(node_ids)).order_by(Node.id).with_for_update(key_share=True)
        return list(await self.session.scalars(query)) if node_ids else []

    async def records(self, node_ids: Collection[str]) -> dict[str, DirectoryRecord]:
        query = select(DirectoryRecord).where(DirectoryRecord.node_id.in_(node_ids))
        query = query.options(defer(DirectoryRecord.document))  # 21 KB, which are written anew
        return {record.node_id: record for record in await self.session.scalars(query)}

    async def neighbours(self, node_ids: Collection[str]) -> dict[str, list[Neighbour]]:
        """Row id → the members that an edge joins it to: no record names a node that nobody may know of."""
        found: dict[str, list[Neighbour]] = {node_id: [] for node_id in node_ids}
        for own, other in ((Edge.a_id, Edge.b_id), (Edge.b_id, Edge.a_id)):
            query = select(own, Node.node_id, Node.roles).join(Node, Node.id == other)
            query = query.where(own.in_(node_ids), *MEMBER)
            for node_id, wire_id, roles in await self.session.execute(query):
                found[node_id].append(Neighbour(wire_id, roles))
        return found
