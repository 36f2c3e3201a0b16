# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.accounts import service
from veilnet.api.accounts.repository import GroupRepository, MemberRepository, ServiceAccountRepository, UserRepository
from veilnet.api.accounts.schemas import (
    AccountState,
    GroupCreate,
    GroupOut,
    GroupPatch,
    MemberCreate,
    MemberOut,
    ServiceAccountCreate,
    ServiceAccountOut,
    ServiceAccountPatch,
    UserCreate,
    UserOut,
    UserPatch,
)
from veilnet.api.accounts.service import GROUPS, SERVICE_ACCOUNTS, USERS
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page

user_routes = Routes("/users", Resource.USERS)
group_routes = Routes("/groups", Resource.GROUPS)
service_account_routes = Routes("/service-accounts", Resource.SERVICE_ACCOUNTS)


@user_routes.post("", "create_user")
async def create_user(body: UserCreate, call: CallDep) -> UserOut:
    return await USERS.create(call, body)


@user_routes.get("", "list_users")
async def list_users(call: CallDep, page: PageDep, state: AccountState | None = None) -> Page[UserOut]:
    call.check_everywhere()
    rows = UserRepository(call.session)
    return await paginate(call, page, rows, rows.chosen(state), USERS.out)


@user_routes.get("/{user_id}", "get_user")
async def get_user(user_id: str, call: CallDep) -> UserOut:
    row = await USERS.get(call, user_id)
    call.show(row)
    return USERS.out(row)


@user_routes.patch("/{user_id}", "update_user")
async def update_user(user_id: str, body: UserPatch, call: CallDep) -> UserOut:
    return await USERS.patch(call, user_id, body)


@user_routes.delete("/{user_id}", "delete_user")
async def delete_user(user_id: str, call: CallDep) -> None:
    await USERS.delete(call, user_id)


@group_routes.post("", "create_group")
async def create_group(body: GroupCreate, call: CallDep) -> GroupOut:
    return await GROUPS.create(call, body)


@group_routes.get("", "list_groups")
async def list_groups(call: CallDep, page: PageDep) -> Page[GroupOut]:
    call.check_everywhere()
    rows = GroupRepository(call.session)
    return await paginate(call, page, rows, rows.all(), GROUPS.out)


@group_routes.get("/{group_id}", "get_group")
async def get_group(group_id: str, call: CallDep) -> GroupOut:
    row = await GROUPS.get(call, group_id)
    call.show(row)
    return GROUPS.out(row)


@group_routes.patch("/{group_id}", "update_group")
async def update_group(group_id: str, body: GroupPatch, call: CallDep) -> GroupOut:
    return await GROUPS.patch(call, group_id, body)


@group_routes.delete("/{group_id}", "delete_group")
async def delete_group(group_id: str, call: CallDep) -> None:
    await GROUPS.delete(call, group_id)


@service_account_routes.post("", "create_service_account")
async def create_service_account(body: ServiceAccountCreate, call: CallDep) -> ServiceAccountOut:
    return await SERVICE_ACCOUNTS.create(call, body)


@service_account_routes.get("", "list_service_accounts")
async def list_service_accounts(
    call: CallDep, page: PageDep, state: AccountState | None = None
) -> Page[ServiceAccountOut]:
    call.check_everywhere()
    rows = ServiceAccountRepository(call.session)
    return await paginate(call, page, rows, rows.chosen(state), SERVICE_ACCOUNTS.out)


@service_account_routes.get("/{service_account_id}", "get_service_account")
async def get_service_account(service_account_id: str, call: CallDep) -> ServiceAccountOut:
    row = await SERVICE_ACCOUNTS.get(call, service_account_id)
    call.show(row)
    return SERVICE_ACCOUNTS.out(row)


@service_account_routes.patch("/{service_account_id}", "update_service_account")
async def update_service_account(
    service_account_id: str, body: ServiceAccountPatch, call: CallDep
) -> ServiceAccountOut:
    return await SERVICE_ACCOUNTS.patch(call, service_account_id, body)


@service_account_routes.delete("/{service_account_id}", "delete_service_account")
async def delete_service_account(service_account_id: str, call: CallDep) -> None:
    await SERVICE_ACCOUNTS.delete(call, service_account_id)


@group_routes.post("/{group_id}/members", "add_group_member")
async def add_group_member(group_id: str, body: MemberCreate, call: CallDep) -> MemberOut:
    return await service.add_member(call, group_id, body)


@group_routes.get("/{group_id}/members", "list_group_members")
async def list_group_members(group_id: str, call: CallDep, page: PageDep) -> Page[MemberOut]:
    await GROUPS.get(call, group_id)
    members = MemberRepository(call.session)
    return await paginate(call, page, members, members.in_group(group_id), service.member_out)


@group_routes.get("/{group_id}/members/{member_id}", "get_group_member")
async def get_group_member(group_id: str, member_id: str, call: CallDep) -> MemberOut:
    row = await service.get_member(call, group_id, member_id)
    call.show(row)
    return service.member_out(row)


@group_routes.delete("/{group_id}/members/{member_id}", "remove_group_member")
async def remove_group_member(group_id: str, member_id: str, call: CallDep) -> None:
    await service.remove_member(call, group_id, member_id)
