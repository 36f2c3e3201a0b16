# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, delete, or_, select

from veilnet.api.db import Repository
from veilnet.api.topology.models import Edge


class EdgeRepository(Repository[Edge]):
    model = Edge

    def in_realm(self, realm_id: str) -> Select[Edge]:
        return self.all().where(Edge.realm_id == realm_id)

    async def of_realm(self, realm_id: str) -> list[Edge]:
        return list(await self.session.scalars(select(Edge).where(Edge.realm_id == realm_id)))

    async def between(self, a_id: str, b_id: str) -> Edge | None:
        return await self.session.scalar(select(Edge).where(Edge.a_id == a_id, Edge.b_id == b_id))

    async def remove_all(self, edges: list[Edge]) -> None:
        for edge in edges:
            await self.session.delete(edge)
        await self.session.flush()

    async def ends_of(self, node_row_id: str) -> list[str]:
        """Row ids of the nodes that an edge joins it to."""
        query = select(Edge.a_id, Edge.b_id).where(or_(Edge.a_id == node_row_id, Edge.b_id == node_row_id))
        return [a if b == node_row_id else b for a, b in await self.session.execute(query)]

    async def remove_of(self, node_row_id: str) -> None:
        await self.session.execute(delete(Edge).where(or_(Edge.a_id == node_row_id, Edge.b_id == node_row_id)))
