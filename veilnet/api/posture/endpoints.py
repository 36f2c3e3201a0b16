# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.platform.access import NODE
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource
from veilnet.api.platform.routing import Routes
from veilnet.api.posture import service
from veilnet.api.posture.repository import PostureRepository
from veilnet.api.posture.schemas import CryptoPosture, NodePosture, NodeSoftware, PostureFilter, SoftwareOut
from veilnet.api.realms.service import visible_realm
from veilnet.api.schemas import Page

routes = Routes("/realms", Resource.CRYPTO_POSTURE)
own_routes = Routes("/node", rule=NODE)


@routes.get("/{realm}/crypto-posture", "get_crypto_posture")
async def get_crypto_posture(realm: str, call: CallDep) -> CryptoPosture:
    """Suite, CA key and certificates of a realm, in figures."""
    return await service.posture(call, realm)


@routes.get("/{realm}/crypto-posture/nodes", "list_crypto_posture_nodes")
async def list_crypto_posture_nodes(
    realm: str, call: CallDep, page: PageDep, filters: Annotated[PostureFilter, Query()]
) -> Page[NodePosture]:
    """The members, each with its certificate and the CA key that signed it."""
    row = await visible_realm(call, realm)
    nodes = PostureRepository(call.session)
    query = nodes.filtered(row.id, filters, call.now, service.late_seconds(call, row))
    return await paginate(call, page, nodes, query, service.presenter(call, row))


@own_routes.put("/software", "put_software", conditional=False, rate="software")
async def put_software(body: NodeSoftware, call: CallDep) -> SoftwareOut:
    """What the node runs, in its own words; each of its processes says it once."""
    return await service.take_software(call, body)
