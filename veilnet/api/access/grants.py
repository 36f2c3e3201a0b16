# SPDX-License-Identifier: Apache-2.0
"""Giving away grants, and changing who holds some: nobody gives, or takes over, more than they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from veilnet.api.access.schemas import GrantBody
from veilnet.api.errors import Forbidden
from veilnet.api.platform.call import Call
from veilnet.api.platform.principal import Principal
from veilnet.api.platform.roles import ALLOWED, Role
from veilnet.api.realms.service import get_realm


async def checked_grants(call: Call, wanted: Sequence[GrantBody]) -> list[dict[str, str | None]]:
    """As they are stored. Raises Forbidden for a role that allows what the caller may not do there."""
    found: list[dict[str, str | None]] = []
    for grant in wanted:
        realm_id = None if grant.realm_id is None else (await get_realm(call.session, grant.realm_id)).id
        _check(call.principal, grant.role, realm_id, "give")
        found.append({"role": grant.role.value, "realm_id": realm_id})
    return found


def check_covers(call: Call, held: Iterable[dict[str, Any]], *, narrowed: bool = True) -> None:
    """Refuse the change of an account or token that holds a role beyond the caller's: it could be used to become it.

    `narrowed=False` is for what only takes away: there the scopes that the caller's token was narrowed to don't count.
    """
    who = call.principal if narrowed else replace(call.principal, scopes=None)
    for grant in held:
        _check(who, Role(grant["role"]), grant["realm_id"], "change what holds")


def _check(who: Principal, wanted: Role, realm_id: str | None, what: str) -> None:
    for role, resource, verb in sorted(ALLOWED):
        if role == wanted and not who.may(resource, verb, realm_id):
            where = "everywhere" if realm_id is None else f"in realm {realm_id}"
            raise Forbidden("forbidden", f"you can't {what} the role {role} {where}: you lack {resource}:{verb} there")
