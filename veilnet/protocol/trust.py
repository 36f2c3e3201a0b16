# SPDX-License-Identifier: Apache-2.0
"""The keys that a realm trusts: its first CA key, named by the realm id, and those that it was handed over to.

A *succession* is signed by the CA key before it and names the next one. Both are trusted until the realm's head,
signed by
a later key, retires the earlier: the overlap in which every node learns the new key while certificates of both are
good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.envelope import (
    ML_DSA_65_KEY_LEN,
    Envelope,
    Fields,
    MalformedDocument,
    Rollback,
    WrongRealm,
    WrongSigner,
    encode_base64,
    key_id,
    open_envelope,
    sign_document,
)

CA_CONTEXT: Final = b"veilnet/ca/1"
SUCCESSIONS_MAX: Final = 64


class ForkedRealm(WrongSigner):
    """One CA key has handed the realm over to two others: it is in two hands."""


@dataclass(frozen=True, slots=True)
class Trust:
    """`keys[n]` is the CA key with serial n (ML-DSA-65, public); those below `retired` sign nothing any more."""

    realm: bytes
    keys: tuple[bytes, ...]
    retired: int = 0

    @classmethod
    def root(cls, ca_key: bytes, realm: bytes | None = None) -> Trust:
        """Trust in a realm's first key alone. WrongSigner if `realm` is not the id of that key."""
        if realm is not None and key_id(ca_key) != realm:
            raise WrongSigner("CA key is not the one that the realm id names")
        return cls(key_id(ca_key), (ca_key,))

    @property
    def retired_ids(self) -> frozenset[bytes]:
        return frozenset(key_id(key) for key in self.keys[: self.retired])

    def signer(self, claimed: bytes) -> bytes:
        """The trusted key with this id. Raises WrongSigner."""
        # ID6
        for key in self.keys[self.retired :]:
            if key_id(key) == claimed:
                return key
        known = "is retired" if claimed in map(key_id, self.keys) else "is not the realm's"
        raise WrongSigner(f"document names signer {claimed.hex()}, which {known}")

    def extended(self, chain: Sequence[Envelope], retired: int) -> Trust:
        """With the successions of a head; each is verified under the key before it, in order from the first."""
        # ID5
        if len(chain) > SUCCESSIONS_MAX or retired > len(chain):
            raise MalformedDocument("successions: too many, or all keys retired")
        if len(chain) < len(self.keys) - 1 or retired < self.retired:
            raise Rollback("successions: fewer keys, or fewer retired ones, than are known")
        keys = list(self.keys)
        for serial, envelope in enumerate(chain, start=1):
            following = _successor(envelope, keys[serial - 1], self.realm, serial)
            if serial == len(keys):
                keys.append(following)
            elif keys[serial] != following:
                raise ForkedRealm(f"successions: another CA key {serial} than the one that is known")
        return replace(self, keys=tuple(keys), retired=retired)


def sign_succession(*, realm: bytes, serial: int, key: bytes, issued: int, signer: MLDSA65PrivateKey) -> Envelope:
    """`signer`, the CA key with serial - 1, hands the realm over to the public key `key`."""
    # ID5
    document = {"realm": realm.hex(), "serial": serial, "key": encode_base64(key), "issued": issued}
    return sign_document(document, signer, CA_CONTEXT)


def _successor(envelope: Envelope, before: bytes, realm: bytes, serial: int) -> bytes:
    fields = Fields(open_envelope(envelope, before, CA_CONTEXT), "succession")
    if fields.id("realm") != realm:
        raise WrongRealm("succession is of another realm")
    if fields.integer("serial") != serial:
        raise MalformedDocument("succession: not the next serial")
    key = fields.base64("key", ML_DSA_65_KEY_LEN)
    fields.integer("issued")
    fields.end()
    return key
