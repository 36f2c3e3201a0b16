# SPDX-License-Identifier: Apache-2.0
"""A fleet keeps somebody who may do everything: no change takes the last owner away.

An owner is whoever can still come in with the role owner everywhere: a token in use, a person who can sign in, a
service account with a secret. Time can end the last one, as tokens have an end: `veilnet master owner-token` makes a
new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.repository import GroupRepository, ServiceAccountRepository, UserRepository
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.errors import Conflict
from veilnet.api.platform.call import Call
from veilnet.api.platform.roles import Role

OWNER_GRANT: Final = {"role": Role.OWNER.value, "realm_id": None}


async def keep_an_owner(call: Call, held: Sequence[dict[str, Any]]) -> None:
    """At the end of a change of what held these grants. Raises Conflict; the change is rolled back."""
    if not _is_owner(held):
        return
    await call.session.flush()
    await CounterRepository(call.session).take("owners", 1)  # one at a time: else two owners could remove each other
    if not (await _a_token(call) or await _a_person(call) or await _a_service_account(call)):
        raise Conflict("last-owner", "afterwards nobody could act as owner: give the role to somebody else first")


async def _a_token(call: Call) -> bool:
    for token in await ApiTokenRepository(call.session).with_role(Role.OWNER, call.now):
        if _is_owner(token.grants) and token.scopes is None and await _account_is_owner(call, token.owner_id):
            return True
    return False


async def _account_is_owner(call: Call, owner_id: str | None) -> bool:
    if owner_id is None:
        return True
    if owner_id.startswith("usr_"):
        user = await UserRepository(call.session).by_id(owner_id)
        return user is not None and user.suspended_at is None and _is_owner(await held_by_user(call, user.id))
    account = await ServiceAccountRepository(call.session).by_id(owner_id)
    return account is not None and account.suspended_at is None and _is_owner(account.grants)


async def _a_person(call: Call) -> bool:
    for user in await UserRepository(call.session).who_can_sign_in():
        if _is_owner(await held_by_user(call, user.id)):
            return True
    return False


async def _a_service_account(call: Call) -> bool:
    found = await ServiceAccountRepository(call.session).able_to_call(call.now)
    return any(_is_owner(account.grants) for account in found)


async def held_by_user(call: Call, user_id: str) -> list[dict[str, Any]]:
    """Grants of a user and of its groups."""
    user = await UserRepository(call.session).by_id(user_id)
    groups = await GroupRepository(call.session).of_user(user_id)
    own = [] if user is None else user.grants
    return [*own, *(grant for group in groups for grant in group.grants)]


def _is_owner(grants: Sequence[dict[str, Any]]) -> bool:
    return OWNER_GRANT in grants
