# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
from ipaddress import IPv6Address, IPv6Network

from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.errors import Conflict, NotFound
from veilnet.api.ids import new_id
from veilnet.api.platform.call import Call
from veilnet.api.platform.merge_patch import patched
from veilnet.api.platform.roles import RealmIds
from veilnet.api.realms.lifetimes import lifetimes
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.schemas import RealmConfig, RealmCreate, RealmDns, RealmOut, RealmPatch, RealmSettings
from veilnet.protocol.directory import fingerprint, key_id
from veilnet.protocol.names import Names


async def create_realm(call: Call, body: RealmCreate) -> Realm:
    call.check_everywhere()
    realms = RealmRepository(call.session)
    if await realms.find(body.name) is not None:
        raise Conflict("name-taken", f"a realm {body.name} exists")
    ca_key = call.context.cas.create().public_key().public_bytes_raw()
    row = Realm(
        id=new_id("rlm"),
        name=body.name,
        wire_id=key_id(ca_key).hex(),
        ca_key=base64.b64encode(ca_key).decode(),
        ipv4_range=str(body.ipv4_range),
        ipv6_prefix=str(ula_prefix(ca_key)),
        revision=1,
        created_at=call.now,
        **body.settings.model_dump(),
    )
    await realms.add(row)
    call.show(row)
    call.audit(row.id, row.id, after=realm_out(row))
    call.emit("realm.created", row.id, row.id, {"name": row.name})
    return row


async def get_realm(session: AsyncSession, id_or_name: str) -> Realm:
    realm = await RealmRepository(session).find(id_or_name)
    if realm is None:
        raise NotFound("realm", id_or_name)
    return realm


async def visible_realm(call: Call, id_or_name: str) -> Realm:
    """The realm, if the caller may do there what this route does."""
    realm = await get_realm(call.session, id_or_name)
    call.check_realm(realm.id, "realm", id_or_name)
    return realm


async def realm_filter(call: Call, id_or_name: str | None) -> RealmIds:
    """Realms that a list shows: the one that was asked for, else all that the caller may read."""
    return call.realms if id_or_name is None else frozenset({(await visible_realm(call, id_or_name)).id})


async def patch_realm(call: Call, id_or_name: str, patch: RealmPatch) -> RealmOut:
    realm = await visible_realm(call, id_or_name)
    call.match(realm)
    before = realm_out(realm)
    wanted = patched(RealmConfig, RealmConfig(name=realm.name, settings=before.settings), patch)
    if wanted.name != realm.name and await RealmRepository(call.session).find(wanted.name) is not None:
        raise Conflict("name-taken", f"a realm {wanted.name} exists")
    realm.name = wanted.name
    _set(call, realm, wanted.settings)
    await _changed(call, realm)
    after = realm_out(realm)
    call.audit(realm.id, realm.id, before, after)
    call.emit("realm.changed", realm.id, realm.id, {"name": realm.name})
    return after


def _set(call: Call, realm: Realm, wanted: RealmSettings) -> None:
    before = lifetimes(realm, call.context.settings)
    for name, value in wanted.model_dump().items():
        setattr(realm, name, value)
    if lifetimes(realm, call.context.settings) != before:
        realm.lifetimes_changed_at = call.now
        call.context.lifetimes.forget(realm.id)


async def _changed(call: Call, realm: Realm) -> None:
    await call.session.flush()
    await RealmRepository(call.session).bump(realm.id)
    call.show(realm)


async def replace_settings(call: Call, id_or_name: str, body: RealmSettings) -> RealmSettings:
    realm = await visible_realm(call, id_or_name)
    call.match(realm)
    before = settings_of(realm)
    _set(call, realm, body)
    await _changed(call, realm)
    call.audit(realm.id, realm.id, before, body)
    call.emit("realm.settings_changed", realm.id, realm.id, body.model_dump())
    return body


async def replace_dns(call: Call, id_or_name: str, body: RealmDns) -> RealmDns:
    realm = await visible_realm(call, id_or_name)
    call.match(realm)
    before = dns_of(realm)
    realm.dns = body.model_dump(mode="json")
    await _changed(call, realm)
    call.audit(realm.id, realm.id, before, body)
    call.emit("realm.dns_changed", realm.id, realm.id, {"records": len(body.records)})
    return body


def dns_of(realm: Realm) -> RealmDns:
    return RealmDns.model_validate(realm.dns)


def names_of(realm: Realm) -> Names:
    """As nodes are told."""
    dns = dns_of(realm)
    records = {name: tuple(addresses) for name, addresses in dns.records.items()}
    return Names(dns.suffix or f"{realm.name}.internal", records)


def settings_of(realm: Realm) -> RealmSettings:
    return RealmSettings.model_validate({name: getattr(realm, name) for name in RealmSettings.model_fields})


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
            "settings": settings_of(realm),
            "version": realm.revision,
            "created_at": realm.created_at,
        }
    )
