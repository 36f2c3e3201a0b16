# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, delete, or_, select, update

from veilnet.api.accounts.models import Group, GroupMember, ServiceAccount, User
from veilnet.api.db import Repository
from veilnet.api.identity.models import IdentityProvider
from veilnet.api.oauth.models import ServiceAccountSecret

N_ = TypeVar("N_", User, Group, ServiceAccount)
S_ = TypeVar("S_", User, ServiceAccount)


def _in_state(query: Select[S_], model: type[S_], state: str | None) -> Select[S_]:
    if state is None:
        return query
    return query.where(model.suspended_at.is_not(None) if state == "suspended" else model.suspended_at.is_(None))


class NamedRepository(Repository[N_]):
    """Accounts: their names are unique in the fleet."""

    async def named(self, name: str) -> N_ | None:
        return await self.session.scalar(select(self.model).where(self.model.name == name))


class UserRepository(NamedRepository[User]):
    model = User

    async def by_identity(self, issuer: str, subject: str) -> User | None:
        return await self.session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))

    async def who_can_sign_in(self) -> list[User]:
        """Active, and known to a provider that is in use."""
        query = select(User).join(IdentityProvider, IdentityProvider.issuer == User.issuer)
        wanted = query.where(User.suspended_at.is_(None), User.subject.is_not(None))
        return list(await self.session.scalars(wanted.where(IdentityProvider.disabled_at.is_(None))))

    def chosen(self, state: str | None) -> Select[User]:
        return _in_state(self.all(), User, state)

    async def note_login(self, user_id: str, now: int) -> None:
        """Without a new version: nobody configured anything."""
        await self.session.execute(update(User).where(User.id == user_id).values(last_login_at=now))


class ServiceAccountRepository(NamedRepository[ServiceAccount]):
    model = ServiceAccount

    async def by_identity(self, issuer: str, subject: str) -> ServiceAccount | None:
        where = (ServiceAccount.issuer == issuer, ServiceAccount.subject == subject)
        return await self.session.scalar(select(ServiceAccount).where(*where))

    async def able_to_call(self, now: int) -> list[ServiceAccount]:
        """Active, with a secret in use or a workload's identity at a provider in use."""
        query = select(ServiceAccount).where(ServiceAccount.suspended_at.is_(None))
        secrets = select(ServiceAccountSecret.service_account_id).where(ServiceAccountSecret.expires_at > now)
        issuers = select(IdentityProvider.issuer).where(IdentityProvider.disabled_at.is_(None))
        return list(
            await self.session.scalars(
                query.where(or_(ServiceAccount.id.in_(secrets), ServiceAccount.issuer.in_(issuers)))
            )
        )

    def chosen(self, state: str | None) -> Select[ServiceAccount]:
        return _in_state(self.all(), ServiceAccount, state)


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
