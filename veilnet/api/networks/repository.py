# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select, delete

from veilnet.api.db import Repository
from veilnet.api.networks.models import AdvertisedNetwork
from veilnet.api.networks.schemas import NetworkFilter
from veilnet.api.platform.roles import RealmIds


class NetworkRepository(Repository[AdvertisedNetwork]):
    model = AdvertisedNetwork

    def filtered(self, realms: RealmIds, filters: NetworkFilter) -> Select[AdvertisedNetwork]:
        query = self.all()
        if realms is not None:
            query = query.where(AdvertisedNetwork.realm_id.in_(realms))
        if filters.node is not None:
            query = query.where(AdvertisedNetwork.node_id == filters.node)
        if filters.state is not None:
            query = query.where(AdvertisedNetwork.state == filters.state)
        return query

    async def of_node(self, node_id: str) -> list[AdvertisedNetwork]:
        query = self.all().where(AdvertisedNetwork.node_id == node_id).order_by(AdvertisedNetwork.id)
        return list(await self.session.scalars(query))

    async def standing(self, realms: RealmIds) -> list[AdvertisedNetwork]:
        """All of these realms that are not rejected."""
        query = self.filtered(realms, NetworkFilter()).where(AdvertisedNetwork.state != "rejected")
        return list(await self.session.scalars(query.order_by(AdvertisedNetwork.id)))

    async def remove_of(self, node_id: str) -> None:
        await self.session.execute(delete(AdvertisedNetwork).where(AdvertisedNetwork.node_id == node_id))
