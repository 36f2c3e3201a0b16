# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.rotation import service
from veilnet.api.rotation.schemas import RealmCa

routes = Routes("/realms", Resource.REALMS)


@routes.get("/{realm}/ca", "get_realm_ca")
async def get_realm_ca(realm: str, call: CallDep) -> RealmCa:
    return await service.show(call, realm)


@routes.post("/{realm}/ca:announce", "announce_realm_ca", status=200, verb=Verb.CREATE)
async def announce_realm_ca(realm: str, call: CallDep) -> RealmCa:
    """Make the next CA key and let nodes learn it; the current one goes on signing."""
    return await service.announce(call, realm)


@routes.post("/{realm}/ca:activate", "activate_realm_ca", status=200, verb=Verb.CREATE)
async def activate_realm_ca(realm: str, call: CallDep) -> RealmCa:
    """The announced key signs from now on; what the old one signed still counts."""
    return await service.activate(call, realm)


@routes.post("/{realm}/ca:finish", "finish_realm_ca", status=200, verb=Verb.CREATE)
async def finish_realm_ca(realm: str, call: CallDep) -> RealmCa:
    """Retire the old key, once nothing in use is signed by it."""
    return await service.finish(call, realm)
