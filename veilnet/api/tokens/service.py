# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Forbidden, NotFound, Unauthorized
from veilnet.api.ids import new_id
from veilnet.api.nodes import lifecycle
from veilnet.api.nodes.repository import NodeRepository
from veilnet.api.platform.call import Call
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import visible_realm
from veilnet.api.secrets import new_secret, quick_hash, quick_matches
from veilnet.api.settings import MasterSettings
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.api.tokens.repository import TokenRepository
from veilnet.api.tokens.schemas import TokenCreate, TokenCreated, TokenOut, TokenState
from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.protocol.directory import fingerprint


async def create_token(call: Call, body: TokenCreate) -> TokenCreated:
    """With the text that a node needs: Master's URL, secret and everything to pin."""
    realm, secret, now = await visible_realm(call, body.realm), new_secret(), call.now
    row = EnrolmentToken(
        id=new_id("tok"),
        realm_id=realm.id,
        secret_hash=quick_hash(secret),
        roles=sorted(set(body.roles)),
        node_name=body.node_name,
        usage_limit=body.usage_limit,
        used=0,
        expires_at=now + body.expires_in,
        created_at=now,
        revoked_at=None,
        ephemeral=body.ephemeral,
        requires_approval=body.requires_approval,
        auto_taints=sorted(set(body.auto_taints)),
        allowed_cidrs=[str(network) for network in body.allowed_cidrs],
    )
    await TokenRepository(call.session).add(row)
    call.show(row)
    call.audit(row.id, realm.id, after=token_out(row, now))
    return token_created(row, _token_text(call.context.settings, realm, row.id, secret).encode(), now)


def _token_text(settings: MasterSettings, realm: Realm, token_id: str, secret: str) -> EnrolmentTokenText:
    return EnrolmentTokenText(
        url=settings.public_url,
        id=token_id,
        secret=secret,
        realm=realm.wire_id,
        ca=fingerprint(base64.b64decode(realm.ca_key)).hex(),
        tls=settings.tls_fingerprint,
    )


async def authenticate(session: AsyncSession, token_id: str, secret: str) -> EnrolmentToken:
    row = await TokenRepository(session).by_id(token_id)
    if row is None or not quick_matches(secret, row.secret_hash):
        raise Unauthorized("enrolment-refused", "no token with this id and secret")
    return row


def state_of(row: EnrolmentToken, now: int) -> TokenState:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at <= now:
        return "expired"
    return "spent" if row.usage_limit is not None and row.used >= row.usage_limit else "usable"


def spend(row: EnrolmentToken, now: int) -> None:
    state = state_of(row, now)
    if state != "usable":
        raise Forbidden(f"token-{state}", f"token {row.id} can't enrol a node any more; ask for a new one")
    row.used += 1


async def visible_token(call: Call, token_id: str) -> EnrolmentToken:
    """The token, if the caller may do in its realm what this route does."""
    row = await TokenRepository(call.session).by_id(token_id)
    if row is None:
        raise NotFound("enrolment token", token_id)
    call.check_realm(row.realm_id, "enrolment token", token_id)
    return row


async def revoke_token(call: Call, token_id: str, *, disconnect: bool) -> TokenOut:
    """Nodes that the token enrolled stay, unless `disconnect` revokes them too."""
    row = await visible_token(call, token_id)
    before = token_out(row, call.now)
    row.revoked_at = row.revoked_at or call.now
    if disconnect:
        await RealmRepository(call.session).locked(row.realm_id)  # before its nodes, as everybody locks them
        for node in await NodeRepository(call.session).of_token(row.id):
            await lifecycle.revoke(call.session, node, call.now)
    call.show(row)
    after = token_out(row, call.now)
    call.audit(row.id, row.realm_id, before, after)
    call.emit("enrolment_token.revoked", row.realm_id, row.id, {"disconnect": disconnect})
    return after


def check_source(row: EnrolmentToken, source: str) -> None:
    """Raises Forbidden for an address outside of `allowed_cidrs`."""
    if not row.allowed_cidrs:
        return
    try:
        address = ip_address(source)
    except ValueError:
        address = None
    if address is None or not any(address in ip_network(cidr) for cidr in row.allowed_cidrs):
        raise Forbidden("address-not-allowed", f"token {row.id} can't be used from {source}")


def token_out(row: EnrolmentToken, now: int) -> TokenOut:
    return TokenOut.model_validate(_fields(row, now))


def token_created(row: EnrolmentToken, text: str, now: int) -> TokenCreated:
    return TokenCreated.model_validate({**_fields(row, now), "token": text})


def _fields(row: EnrolmentToken, now: int) -> dict[str, object]:
    own = {name: getattr(row, name) for name in TokenOut.model_fields if name != "state"}
    return {**own, "state": state_of(row, now)}
