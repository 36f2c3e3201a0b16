# SPDX-License-Identifier: Apache-2.0
"""A realm goes: every row that is its own, what accounts may do there, its CA keys. Audit and events stay."""

from __future__ import annotations

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.repository import GroupRepository, ServiceAccountRepository, UserRepository
from veilnet.api.db import after_commit
from veilnet.api.errors import Conflict
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.call import Call
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import realm_out, visible_realm
from veilnet.api.rotation.repository import CaKeyRepository


async def delete_realm(call: Call, id_or_name: str) -> None:
    """Raises Conflict while nodes are members: they would go on with each other until their certificates end."""
    realm = await visible_realm(call, id_or_name)
    realms = RealmRepository(call.session)
    await realms.alone(realm.id)
    call.match(realm)
    members = await NodeRepository(call.session).count_not_revoked(realm.id)
    if members:
        raise Conflict(
            "realm-not-empty",
            f"{members} nodes are not revoked: revoke or delete them first (POST /nodes:batch)",
        )
    wire_ids = [realm.wire_id, *(row.key_id for row in await CaKeyRepository(call.session).of_realm(realm.id))]
    call.audit(realm.id, realm.id, realm_out(realm))
    call.emit("realm.deleted", realm.id, realm.id, {"name": realm.name})
    await _take_grants(call, realm.id)
    await realms.erase(realm.id)
    cas = call.context.cas
    after_commit(call.session, lambda: cas.discard(wire_ids))


async def _take_grants(call: Call, realm_id: str) -> None:
    for kind in (UserRepository, GroupRepository, ServiceAccountRepository, ApiTokenRepository):
        for row in await kind(call.session).every():
            if any(grant["realm_id"] == realm_id for grant in row.grants):
                row.grants = [grant for grant in row.grants if grant["realm_id"] != realm_id]
