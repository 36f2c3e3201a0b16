# SPDX-License-Identifier: Apache-2.0
"""What a realm's cryptography rests on right now, from what the Master has issued. Only what a node says
of itself is written here."""

from __future__ import annotations

from collections.abc import Callable

from veilnet.api.nodes.models import Node
from veilnet.api.platform.call import Call
from veilnet.api.posture.repository import PostureRepository
from veilnet.api.posture.schemas import CertificateState, CryptoPosture, NodePosture, NodeSoftware, SoftwareOut, Suite
from veilnet.api.realms.lifetimes import lifetimes
from veilnet.api.realms.models import Realm
from veilnet.api.realms.service import visible_realm
from veilnet.api.rotation.repository import CaKeyRepository
from veilnet.api.rotation.service import show


async def posture(call: Call, realm_ref: str) -> CryptoPosture:
    realm = await visible_realm(call, realm_ref)
    ca = await show(call, realm_ref)
    rows = await CaKeyRepository(call.session).of_realm(realm.id)
    active = next(key for key in ca.keys if key.state == "active")
    return CryptoPosture.model_validate(
        {
            "realm_id": realm.id,
            "suite": Suite(),
            "ca_fingerprint": active.fingerprint,
            "ca_active_since": max((row.activated_at for row in rows if row.activated_at), default=realm.created_at),
            "ca_announced": ca.keys[-1].state == "announced",
            "on_other_ca_keys": ca.remaining,
            "rekey_seconds": realm.rekey_seconds,
            "certificate_seconds": lifetimes(realm, call.context.settings).certificate,
            **await PostureRepository(call.session).counts(realm.id, call.now, late_seconds(call, realm)),
            "software": await PostureRepository(call.session).software(realm.id),
        }
    )


def late_seconds(call: Call, realm: Realm) -> int:
    return lifetimes(realm, call.context.settings).certificate // 3


def presenter(call: Call, realm: Realm) -> Callable[[Node], NodePosture]:
    now, late = call.now, late_seconds(call, realm)

    def present(row: Node) -> NodePosture:
        return NodePosture.model_validate(
            {
                "id": row.id,
                "name": row.name,
                "certificate": _state(row.certificate_not_after, now, late),
                "certificate_serial": row.certificate_serial,
                "certificate_not_after": row.certificate_not_after,
                "ca_key_id": row.certificate["key"],
                "descriptor_expires": row.descriptor_expires,
                "last_seen_at": row.last_seen_at,
                "software": _software(row),
            }
        )

    return present


def _software(row: Node) -> SoftwareOut | None:
    if row.software_version is None:
        return None
    names = ("version", "provider", "kernel", "since")
    return SoftwareOut.model_validate({name: getattr(row, f"software_{name}") for name in names})


async def take_software(call: Call, body: NodeSoftware) -> SoftwareOut:
    """Nothing is written when the node says the same again."""
    nodes, node, since = PostureRepository(call.session), call.node, call.now
    held = await nodes.said(node.id)
    if held is not None and held[0] == body:
        since = held[1]
    else:
        await nodes.note(node.id, body, since)
    return SoftwareOut.model_validate({**body.model_dump(), "since": since})


def _state(end: int, now: int, late: int) -> CertificateState:
    if end <= now:
        return "ended"
    return "fresh" if end >= now + late else "late"
