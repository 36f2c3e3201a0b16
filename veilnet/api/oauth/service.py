# SPDX-License-Identifier: Apache-2.0
"""Client secrets of service accounts, a resource below `service-accounts`."""

from __future__ import annotations

from typing import Final

from veilnet.api.access.grants import check_covers
from veilnet.api.access.owners import keep_an_owner
from veilnet.api.accounts.models import ServiceAccount
from veilnet.api.accounts.service import SERVICE_ACCOUNTS
from veilnet.api.errors import Conflict, NotFound
from veilnet.api.ids import new_id
from veilnet.api.oauth.models import ServiceAccountSecret
from veilnet.api.oauth.repository import SecretRepository
from veilnet.api.oauth.schemas import SecretCreate, SecretCreated, SecretOut
from veilnet.api.platform.call import Call
from veilnet.api.secrets import bearer, new_secret, slow_hash

SECRETS_MAX: Final = 5
"""Of one account, in use at once."""


async def create_secret(call: Call, account_id: str, body: SecretCreate) -> SecretCreated:
    account = await SERVICE_ACCOUNTS.get(call, account_id)
    check_covers(call, account.grants)  # whoever has a secret acts as the account
    secrets = SecretRepository(call.session)
    await _end_earlier(call, account, body.overlap_seconds)
    if len(await secrets.usable(account.id, call.now)) >= SECRETS_MAX:
        raise Conflict("conflict", f"{account.name} has {SECRETS_MAX} secrets: delete one, or give overlap_seconds")
    secret = new_secret()
    row = ServiceAccountSecret(
        id=new_id("sas"),
        service_account_id=account.id,
        hash=slow_hash(secret),
        created_at=call.now,
        expires_at=call.now + body.expires_in,
        last_used_at=None,
    )
    await secrets.add(row)
    call.show(row)
    out = secret_out(row, call.now)
    call.audit(row.id, None, after=out)
    call.emit("service_account.changed", None, account.id, {"name": account.name})
    text = bearer("vnc", row.id, secret)
    return SecretCreated.model_validate({**out.model_dump(), "client_id": account.id, "client_secret": text})


async def _end_earlier(call: Call, account: ServiceAccount, overlap: int | None) -> None:
    if overlap is not None:
        for row in await SecretRepository(call.session).usable(account.id, call.now):
            row.expires_at = min(row.expires_at, call.now + overlap)


async def get_secret(call: Call, account_id: str, secret_id: str) -> ServiceAccountSecret:
    await SERVICE_ACCOUNTS.get(call, account_id)
    row = await SecretRepository(call.session).by_id(secret_id)
    if row is None or row.service_account_id != account_id:
        raise NotFound("secret", secret_id)
    return row


async def delete_secret(call: Call, account_id: str, secret_id: str) -> None:
    """It opens nothing from now on; access tokens that it got end by themselves, within minutes."""
    row = await get_secret(call, account_id, secret_id)
    call.match(row)
    held = (await SERVICE_ACCOUNTS.get(call, account_id)).grants
    check_covers(call, held, narrowed=False)
    call.audit(row.id, None, before=secret_out(row, call.now))
    await SecretRepository(call.session).remove(row)
    await keep_an_owner(call, held)


def secret_out(row: ServiceAccountSecret, now: int) -> SecretOut:
    own = {name: getattr(row, name) for name in SecretOut.model_fields if name != "state"}
    return SecretOut.model_validate({**own, "state": "expired" if row.expires_at <= now else "usable"})
