# SPDX-License-Identifier: Apache-2.0
"""Giving away grants: nobody gives more than they have."""

from __future__ import annotations

from collections.abc import Sequence

from veilnet.api.access.schemas import GrantBody
from veilnet.api.errors import Forbidden
from veilnet.api.platform.call import Call
from veilnet.api.platform.roles import ALLOWED
from veilnet.api.realms.service import get_realm


async def checked_grants(call: Call, wanted: Sequence[GrantBody]) -> list[dict[str, str | None]]:
    """As they are stored. Raises Forbidden for a role that allows what the caller may not do there."""
    found = []
    for grant in wanted:
        realm_id = None if grant.realm_id is None else (await get_realm(call.session, grant.realm_id)).id
        for role, resource, verb in ALLOWED:
            if role == grant.role and not call.principal.may(resource, verb, realm_id):
                where = "everywhere" if realm_id is None else f"in realm {grant.realm_id}"
                raise Forbidden(
                    "forbidden", f"you can't give the role {role} {where}: you lack {resource}:{verb} there"
                )
        found.append({"role": grant.role.value, "realm_id": realm_id})
    return found
