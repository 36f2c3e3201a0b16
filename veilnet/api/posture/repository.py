# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, select, update
from sqlalchemy.orm import defer

from veilnet.api.db import Repository
from veilnet.api.nodes.models import MEMBER, Node
from veilnet.api.posture.schemas import SOFTWARE_MAX, CertificateState, NodeSoftware, PostureFilter, SoftwareCount

STATES: Final[tuple[CertificateState, ...]] = ("fresh", "late", "ended")


class PostureRepository(Repository[Node]):
    """Members of a realm by how long their certificates still count."""

    model = Node

    def filtered(self, realm_id: str, filters: PostureFilter, now: int, late: int) -> Select[Node]:
        query = self.all().options(defer(Node.descriptor)).where(Node.realm_id == realm_id, *MEMBER)
        if filters.version is not None:
            query = query.where(Node.software_version == filters.version)
        return query if filters.certificate is None else query.where(_condition(filters.certificate, now, late))

    async def software(self, realm_id: str) -> list[SoftwareCount]:
        """How many members say that they run what."""
        which, count = (Node.software_version, Node.software_provider), func.count()
        query = select(*which, count).where(Node.realm_id == realm_id, *MEMBER).group_by(*which)
        rows = await self.session.execute(query.order_by(count.desc(), *which).limit(SOFTWARE_MAX))
        return [SoftwareCount(version=version, provider=provider, nodes=nodes) for version, provider, nodes in rows]

    async def said(self, node_id: str) -> tuple[NodeSoftware, int] | None:
        """What the node last said of itself, and since when."""
        columns = (Node.software_version, Node.software_provider, Node.software_kernel, Node.software_since)
        version, provider, kernel, since = (
            await self.session.execute(select(*columns).where(Node.id == node_id))
        ).one()
        if version is None or provider is None or kernel is None or since is None:
            return None
        return NodeSoftware(version=version, provider=provider, kernel=kernel), since

    async def note(self, node_id: str, software: NodeSoftware, now: int) -> None:
        """Without a new version of the row: nobody configured anything."""
        said = {f"software_{name}": value for name, value in software.model_dump().items()}
        query = update(Node).where(Node.id == node_id).values(**said, software_since=now)
        await self.session.execute(query)

    async def counts(self, realm_id: str, now: int, late: int) -> dict[str, int]:
        columns = [func.count().filter(_condition(state, now, late)).label(f"certificates_{state}") for state in STATES]
        stale = func.count().filter(Node.descriptor_expires <= now).label("descriptors_ended")
        query = select(func.count().label("members"), *columns, stale).where(Node.realm_id == realm_id, *MEMBER)
        return dict((await self.session.execute(query)).one()._mapping)


def _condition(state: CertificateState, now: int, late: int) -> ColumnElement[bool]:
    """`late`: seconds before its end from which on a certificate that has not been renewed is late."""
    end = Node.certificate_not_after
    if state == "ended":
        return end <= now
    return end >= now + late if state == "fresh" else and_(end > now, end < now + late)
