# SPDX-License-Identifier: Apache-2.0
"""Rotation of a realm's CA key in three steps, each of which the administrator takes when the one before has sunk in.

announce   a new key is made; the old one signs the succession, which goes out in the head. The old one goes on signing.
activate   the new key signs; records and certificates are signed again, some at a time. What both signed counts.
finish     refused while anything in use is the old key's; then the head, signed by the new key, retires the old one.
"""

from __future__ import annotations

import base64

from veilnet.api.errors import Conflict
from veilnet.api.ids import new_id
from veilnet.api.platform.call import Call
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.realms.service import visible_realm
from veilnet.api.rotation.authority import authority
from veilnet.api.rotation.models import CaKey
from veilnet.api.rotation.repository import CaKeyRepository
from veilnet.api.rotation.schemas import CaKeyOut, KeyState, RealmCa
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.protocol.envelope import fingerprint, key_id
from veilnet.protocol.trust import SUCCESSIONS_MAX, sign_succession


async def show(call: Call, realm_ref: str) -> RealmCa:
    return await _out(call, await visible_realm(call, realm_ref))


async def announce(call: Call, realm_ref: str) -> RealmCa:
    realm, rows, before = await _opened(call, realm_ref)
    if rows and rows[-1].finished_at is None:
        raise Conflict("rotation-underway", f"CA key {rows[-1].serial} of realm {realm.name} is not in full use yet")
    if len(rows) >= SUCCESSIONS_MAX:
        raise Conflict("rotation-underway", f"realm {realm.name} has had {len(rows)} CA keys, the most there may be")
    ca = await authority(call.session, call.context.cas, realm)
    key = call.context.cas.create().public_key().public_bytes_raw()
    serial = len(rows) + 1
    row = CaKey(
        id=new_id("cak"),
        realm_id=realm.id,
        serial=serial,
        key=base64.b64encode(key).decode(),
        succession=sign_succession(realm=ca.realm, serial=serial, key=key, issued=call.now, signer=ca.key).as_json(),
        created_at=call.now,
        activated_at=None,
        finished_at=None,
    )
    await CaKeyRepository(call.session).add(row)
    return await _changed(call, realm, before, "announced")


async def activate(call: Call, realm_ref: str) -> RealmCa:
    realm, rows, before = await _opened(call, realm_ref)
    if not rows or rows[-1].activated_at is not None:
        raise Conflict("rotation-order", f"realm {realm.name} has no announced CA key: announce one first")
    rows[-1].activated_at = call.now
    await call.session.flush()
    return await _changed(call, realm, before, "activated")


async def finish(call: Call, realm_ref: str) -> RealmCa:
    realm, rows, before = await _opened(call, realm_ref)
    if not rows or rows[-1].activated_at is None or rows[-1].finished_at is not None:
        raise Conflict("rotation-order", f"realm {realm.name} has no CA key that was activated and not finished")
    if before.remaining:
        detail = f"{before.remaining} nodes of realm {realm.name} still rely on the old CA key: wait, or revoke them"
        raise Conflict("rotation-underway", detail)
    rows[-1].finished_at = call.now
    await call.session.flush()
    return await _changed(call, realm, before, "finished")


async def _opened(call: Call, realm_ref: str) -> tuple[Realm, list[CaKey], RealmCa]:
    """One rotation at a time: the realm's row is locked."""
    realm = await visible_realm(call, realm_ref)
    await RealmRepository(call.session).bump(realm.id)
    return realm, await CaKeyRepository(call.session).of_realm(realm.id), await _out(call, realm)


async def _changed(call: Call, realm: Realm, before: RealmCa, step: str) -> RealmCa:
    await DirectoryRepository(call.session).mark(realm.id, [None])
    after = await _out(call, realm)
    call.audit(realm.id, realm.id, before, after)
    call.emit(f"realm.ca_{step}", realm.id, realm.id, {"serial": after.keys[-1].serial})
    return after


async def _out(call: Call, realm: Realm) -> RealmCa:
    rows = await CaKeyRepository(call.session).of_realm(realm.id)
    ca = await authority(call.session, call.context.cas, realm)
    keys = [base64.b64decode(realm.ca_key), *(base64.b64decode(row.key) for row in rows)]
    active = max((row.serial for row in rows if row.activated_at is not None), default=0)
    return RealmCa.model_validate(
        {
            "realm_id": realm.id,
            "keys": [
                CaKeyOut(
                    serial=serial,
                    key_id=key_id(key).hex(),
                    fingerprint=fingerprint(key).hex(),
                    state=_state(serial, active, ca.retired),
                )
                for serial, key in enumerate(keys)
            ],
            "remaining": await DirectoryRepository(call.session).signed_by_others(realm.id, ca.signer),
            "announced_at": rows[-1].created_at if rows else None,
        }
    )


def _state(serial: int, active: int, retired: int) -> KeyState:
    if serial > active:
        return "announced"
    if serial == active:
        return "active"
    return "retired" if serial < retired else "overlapping"
