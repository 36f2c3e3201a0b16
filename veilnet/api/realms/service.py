# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
from ipaddress import IPv6Address, IPv6Network

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.ca import CaStore
from veilnet.api.errors import Conflict, NotFound
from veilnet.api.ids import new_id
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.schemas import RealmCreate, RealmOut, RealmSettings
from veilnet.protocol.directory import fingerprint, key_id


async def create_realm(session: AsyncSession, cas: CaStore, body: RealmCreate, now: int) -> Realm:
    realms = RealmRepository(session)
    if await realms.find(body.name) is not None:
        raise Conflict("name-taken", f"a realm {body.name} exists")
    ca_key = cas.create().public_key().public_bytes_raw()
    row = Realm(
        id=new_id("rlm"),
        name=body.name,
        wire_id=key_id(ca_key).hex(),
        ca_key=base64.b64encode(ca_key).decode(),
        ipv4_range=str(body.ipv4_range),
        ipv6_prefix=str(ula_prefix(ca_key)),
        revision=1,
        created_at=now,
        **body.settings.model_dump(),
    )
    return await realms.add(row)


async def get_realm(session: AsyncSession, id_or_name: str) -> Realm:
    realm = await RealmRepository(session).find(id_or_name)
    if realm is None:
        raise NotFound("realm", id_or_name)
    return realm


async def replace_settings(session: AsyncSession, id_or_name: str, body: RealmSettings) -> Realm:
    realm = await get_realm(session, id_or_name)
    for name, value in body.model_dump().items():
        setattr(realm, name, value)
    await RealmRepository(session).bump(realm.id)
    await session.refresh(realm)
    return realm


def ula_prefix(ca_key: bytes) -> IPv6Network:
    """Unique local /64 (RFC 4193) whose random bits come from the CA key: nobody has to choose or to store it."""
    digest = hashlib.sha256(b"veilnet ula\0" + ca_key).digest()
    return IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64))


def ula_address(prefix: IPv6Network, node_id: bytes) -> IPv6Address:
    """A node's address: the prefix and 64 bits of its node id."""
    return IPv6Address(int(prefix.network_address) | int.from_bytes(node_id[:8], "big"))


def realm_out(realm: Realm) -> RealmOut:
    return RealmOut.model_validate(
        {
            "id": realm.id,
            "name": realm.name,
            "realm": realm.wire_id,
            "ca_fingerprint": fingerprint(base64.b64decode(realm.ca_key)).hex(),
            "ipv4_range": realm.ipv4_range,
            "ipv6_prefix": realm.ipv6_prefix,
            "settings": {name: getattr(realm, name) for name in RealmSettings.model_fields},
            "version": realm.revision,
            "created_at": realm.created_at,
        }
    )
