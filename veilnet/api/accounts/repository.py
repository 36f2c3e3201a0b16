# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, delete, select

from veilnet.api.accounts.models import Group, GroupMember, ServiceAccount, User
from veilnet.api.db import Repository

N_ = TypeVar("N_", User, Group, ServiceAccount)


class NamedRepository(Repository[N_]):
    """Accounts: their names are unique in the fleet."""

    async def named(self, name: str) -> N_ | None:
        return await self.session.scalar(select(self.model).where(self.model.name == name))


class UserRepository(NamedRepository[User]):
    model = User

    async def by_identity(self, issuer: str, subject: str) -> User | None:
        return await self.session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))


class ServiceAccountRepository(NamedRepository[ServiceAccount]):
    model = ServiceAccount


class GroupRepository(NamedRepository[Group]):
    model = Group

    async def of_user(self, user_id: str) -> list[Group]:
        query = select(Group).join(GroupMember, GroupMember.group_id == Group.id).where(GroupMember.user_id == user_id)
        return list(await self.session.scalars(query))


class MemberRepository(Repository[GroupMember]):
    model = GroupMember

    def in_group(self, group_id: str) -> Select[GroupMember]:
        return self.all().where(GroupMember.group_id == group_id)

    async def find(self, group_id: str, user_id: str) -> GroupMember | None:
        return await self.session.scalar(self.in_group(group_id).where(GroupMember.user_id == user_id))

    async def forget(self, *, group_id: str | None = None, user_id: str | None = None) -> None:
        """Every membership of this group, or of this user."""
        where = GroupMember.group_id == group_id if user_id is None else GroupMember.user_id == user_id
        await self.session.execute(delete(GroupMember).where(where))
