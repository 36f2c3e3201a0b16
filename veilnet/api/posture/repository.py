# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import defer

from veilnet.api.db import Repository
from veilnet.api.nodes.models import MEMBER, Node
from veilnet.api.posture.schemas import CertificateState

STATES: Final[tuple[CertificateState, ...]] = ("fresh", "late", "ended")


class PostureRepository(Repository[Node]):
    """Members of a realm by how long their certificates still count."""

    model = Node

    def in_state(self, realm_id: str, state: CertificateState | None, now: int, late: int) -> Select[Node]:
        query = self.all().options(defer(Node.descriptor)).where(Node.realm_id == realm_id, *MEMBER)
        return query if state is None else query.where(_condition(state, now, late))

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
