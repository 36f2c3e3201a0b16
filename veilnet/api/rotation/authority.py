# SPDX-License-Identifier: Apache-2.0
"""The CA of a realm as it stands: which key signs, the successions that lead to it, which keys are retired."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.ca import CaStore
from veilnet.api.realms.models import Realm
from veilnet.api.rotation.repository import CaKeyRepository
from veilnet.protocol.envelope import Envelope, key_id, read_envelope


@dataclass(frozen=True)
class Authority:
    realm: bytes
    key: MLDSA65PrivateKey
    chain: tuple[Envelope, ...] = ()
    retired: int = 0

    @cached_property
    def signer(self) -> str:
        """Id of the key that signs."""
        return key_id(self.key.public_key().public_bytes_raw()).hex()


async def authority(session: AsyncSession, cas: CaStore, realm: Realm) -> Authority:
    rows = await CaKeyRepository(session).of_realm(realm.id)
    active = [row for row in rows if row.activated_at is not None]
    finished = [row.serial for row in rows if row.finished_at is not None]
    wire_id = active[-1].key_id if active else realm.wire_id
    return Authority(
        bytes.fromhex(realm.wire_id),
        cas.key(wire_id),
        tuple(read_envelope(row.succession) for row in rows),
        max(finished, default=0),
    )
