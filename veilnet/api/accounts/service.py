# SPDX-License-Identifier: Apache-2.0
"""Users, groups and service accounts: alike but for a few fields, so the steps of a change stand here once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from veilnet.api.access.grants import check_covers, checked_grants
from veilnet.api.access.owners import held_by_user, keep_an_owner
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.accounts.models import Group, GroupMember, ServiceAccount, User
from veilnet.api.accounts.repository import (
    GroupRepository,
    MemberRepository,
    NamedRepository,
    ServiceAccountRepository,
    UserRepository,
)
from veilnet.api.accounts.schemas import (
    GroupCreate,
    GroupOut,
    MemberCreate,
    MemberOut,
    ServiceAccountCreate,
    ServiceAccountOut,
    UserCreate,
    UserOut,
)
from veilnet.api.errors import Conflict, Invalid, NotFound
from veilnet.api.ids import new_id
from veilnet.api.oauth.repository import SecretRepository
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched

N_ = TypeVar("N_", User, Group, ServiceAccount)
O_ = TypeVar("O_", bound=BaseModel)
C_ = TypeVar("C_", bound=BaseModel)


@dataclass(frozen=True)
class Accounts(Generic[N_, C_, O_]):
    """One kind of account: its table, its schemas, its word."""

    what: str
    prefix: str
    model: type[N_]
    repository: Callable[[Any], NamedRepository[N_]]
    create_model: type[C_]
    out_model: type[O_]

    async def create(self, call: Call, body: C_) -> O_:
        call.check_everywhere()
        await self._check_name(call, getattr(body, "name"), None)  # noqa: B009 - a field of each create model
        await self._check_identity(call, body, None)
        row = self.model(id=new_id(self.prefix), created_at=call.now, **await self._columns(call, body, None))
        await self.repository(call.session).add(row)
        call.show(row)
        call.audit(row.id, None, after=self.out(row))
        call.emit(f"{self.what}.created", None, row.id, {"name": row.name})
        return self.out(row)

    async def get(self, call: Call, row_id: str) -> N_:
        call.check_everywhere()
        row = await self.repository(call.session).by_id(row_id)
        if row is None:
            raise NotFound(self.what.replace("_", " "), row_id)
        return row

    async def patch(self, call: Call, row_id: str, patch: BaseModel) -> O_:
        row = await self.get(call, row_id)
        call.match(row)
        held = await self._held(call, row)
        check_covers(call, held)
        before = self.out(row)
        body = patched(self.create_model, self._body(row), patch)
        await self._check_name(call, getattr(body, "name"), row.id)  # noqa: B009
        await self._check_identity(call, body, row.id)
        for name, value in (await self._columns(call, body, row)).items():
            setattr(row, name, value)
        await keep_an_owner(call, held)
        call.show(row)
        call.audit(row.id, None, before, self.out(row))
        call.emit(f"{self.what}.changed", None, row.id, {"name": row.name})
        return self.out(row)

    async def delete(self, call: Call, row_id: str) -> None:
        """Its API tokens are revoked, its memberships go."""
        row = await self.get(call, row_id)
        call.match(row)
        held = await self._held(call, row)
        check_covers(call, held, narrowed=False)
        call.audit(row.id, None, before=self.out(row))
        call.emit(f"{self.what}.deleted", None, row.id, {"name": row.name})
        await ApiTokenRepository(call.session).revoke_of(row.id, call.now)
        if isinstance(row, User):
            await MemberRepository(call.session).forget(user_id=row.id)
        if isinstance(row, Group):
            await MemberRepository(call.session).forget(group_id=row.id)
        if isinstance(row, ServiceAccount):
            await SecretRepository(call.session).forget(row.id)
        await self.repository(call.session).remove(row)
        await keep_an_owner(call, held)

    async def _held(self, call: Call, row: N_) -> list[dict[str, Any]]:
        return await held_by_user(call, row.id) if isinstance(row, User) else row.grants

    def out(self, row: N_) -> O_:
        return self.out_model.model_validate(self._fields(row))

    def _fields(self, row: N_) -> dict[str, Any]:
        own = {name: getattr(row, name) for name in self.out_model.model_fields if name != "state"}
        if "state" in self.out_model.model_fields:
            own["state"] = "active" if getattr(row, "suspended_at", None) is None else "suspended"
        return own

    def _body(self, row: N_) -> C_:
        fields = self._fields(row)
        return self.create_model.model_validate({name: fields[name] for name in self.create_model.model_fields})

    async def _columns(self, call: Call, body: C_, row: N_ | None) -> dict[str, Any]:
        wanted = body.model_dump(exclude={"state", "grants"})
        grants = getattr(body, "grants")  # noqa: B009
        known = [] if row is None else row.grants
        kept = [grant for grant in grants if grant.model_dump(mode="json") in known]
        new = await checked_grants(call, [grant for grant in grants if grant not in kept])
        wanted["grants"] = [grant.model_dump(mode="json") for grant in kept] + new
        if "state" in self.create_model.model_fields:
            since = getattr(row, "suspended_at", None)
            wanted["suspended_at"] = (since or call.now) if getattr(body, "state") == "suspended" else None  # noqa: B009
        return wanted

    async def _check_name(self, call: Call, name: str, own_id: str | None) -> None:
        found = await self.repository(call.session).named(name)
        if found is not None and found.id != own_id:
            raise Conflict("name-taken", f"a {self.what.replace('_', ' ')} {name} exists")

    async def _check_identity(self, call: Call, body: C_, own_id: str | None) -> None:
        """Who this is at an identity provider: both or neither, and nobody else."""
        issuer, subject = getattr(body, "issuer", None), getattr(body, "subject", None)
        if (issuer is None) != (subject is None):
            raise Invalid("invalid", "issuer and subject name an identity together: give both or neither")
        if issuer is None or subject is None:
            return
        for repository in (UserRepository(call.session), ServiceAccountRepository(call.session)):
            found = await repository.by_identity(issuer, subject)
            if found is not None and found.id != own_id:
                raise Conflict("name-taken", f"{found.name} ({found.id}) is {subject} of {issuer} already")


USERS: Final = Accounts("user", "usr", User, UserRepository, UserCreate, UserOut)
GROUPS: Final = Accounts("group", "grp", Group, GroupRepository, GroupCreate, GroupOut)
SERVICE_ACCOUNTS: Final = Accounts(
    "service_account", "sva", ServiceAccount, ServiceAccountRepository, ServiceAccountCreate, ServiceAccountOut
)


async def add_member(call: Call, group_id: str, body: MemberCreate) -> MemberOut:
    """Making somebody a member twice is the same as once."""
    group, user = await GROUPS.get(call, group_id), await USERS.get(call, body.user_id)
    await checked_grants(call, GROUPS._body(group).grants)  # a membership gives the group's grants away
    members = MemberRepository(call.session)
    row = await members.find(group.id, user.id)
    if row is None:
        row = await members.add(GroupMember(id=new_id("gme"), group_id=group.id, user_id=user.id, created_at=call.now))
        call.audit(group.id, None, after=member_out(row))
        call.emit("group.changed", None, group.id, {"name": group.name})
    call.show(row)
    return member_out(row)


async def get_member(call: Call, group_id: str, member_id: str) -> GroupMember:
    await GROUPS.get(call, group_id)
    row = await MemberRepository(call.session).by_id(member_id)
    if row is None or row.group_id != group_id:
        raise NotFound("member", member_id)
    return row


async def remove_member(call: Call, group_id: str, member_id: str) -> None:
    row = await get_member(call, group_id, member_id)
    call.match(row)
    held = (await GROUPS.get(call, group_id)).grants
    check_covers(call, held, narrowed=False)
    call.audit(group_id, None, before=member_out(row))
    call.emit("group.changed", None, group_id, {})
    await MemberRepository(call.session).remove(row)
    await keep_an_owner(call, held)


def member_out(row: GroupMember) -> MemberOut:
    return MemberOut.model_validate(row)
