# SPDX-License-Identifier: Apache-2.0
"""A realm's CA and its nodes, for tests: signs whatever it is asked to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol import directory as d
from veilnet.protocol.policy import OPEN, Policy
from veilnet.protocol.records import Entry, digest, record_json, sign_entry, sign_head
from veilnet.protocol.trust import Trust, sign_succession

NOW = 1_800_000_000


def public(key: MLDSA65PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


@dataclass
class Realm:
    """`keys` are the CA's; the last one signs unless another is named."""

    keys: list[MLDSA65PrivateKey] = field(default_factory=lambda: [MLDSA65PrivateKey.generate()])
    retired: int = 0

    @property
    def id(self) -> bytes:
        return d.key_id(public(self.keys[0]))

    @property
    def trust(self) -> Trust:
        return Trust.root(public(self.keys[0]))

    def chain(self) -> list[d.Envelope]:
        return [
            sign_succession(
                realm=self.id, serial=serial, key=public(self.keys[serial]), issued=NOW, signer=self.keys[serial - 1]
            )
            for serial in range(1, len(self.keys))
        ]

    def head(self, version: int = 1, *, signer: int = -1, policy: Policy = OPEN, **changes: Any) -> dict[str, str]:
        fields: dict[str, Any] = {
            "issued": NOW - 1,
            "expires": NOW + 100_000,
            "settings": {"min_guardians": 2},
            "chain": self.chain(),
            "retired": self.retired,
            "realm": self.id,
            **changes,
        }
        return sign_head(ca_key=self.keys[signer], version=version, policy=policy, **fields).as_json()


class Node:
    def __init__(self, realm: Realm, number: int, roles: str = "guardian", taints: str = "") -> None:
        self.realm = realm
        self.private = MLDSA65PrivateKey.generate()
        self.key = public(self.private)
        self.id = d.key_id(self.key)
        self.certificate = d.Certificate(
            realm=realm.id,
            node=self.id,
            key=self.key,
            name=f"node-{number}",
            roles=frozenset(roles.split()),
            ipv4=IPv4Address("10.90.0.0") + number,
            ipv6=IPv6Address("fd00::") + number,
            taints=frozenset(taints.split()),
            serial=1,
            not_before=NOW - 10,
            not_after=NOW + 1000,
        )
        self.descriptor = d.Descriptor(
            node=self.id,
            serial=1,
            x25519=bytes([number]) * 32,
            mlkem768=bytes([number]) * 1184,
            knock_seed=bytes([number]) * 32,
            endpoints=((IPv4Address("192.0.2.1"), 4000 + number),),
            issued=NOW - 5,
            expires=NOW + 500,
        )

    def record(
        self,
        version: int = 1,
        edges: tuple[bytes, ...] = (),
        *,
        signer: int = -1,
        cert_signer: int | None = None,
        issued: int = NOW - 1,
        cert: dict[str, Any] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """`cert` and `changes` change certificate and descriptor."""
        ca = self.realm.keys[signer]
        cert_ca = ca if cert_signer is None else self.realm.keys[cert_signer]
        certificate = d.sign_certificate(replace(self.certificate, **(cert or {})), cert_ca)
        descriptor = d.sign_descriptor(replace(self.descriptor, **changes), self.private)
        entry = Entry(self.id, version, issued, digest(certificate), digest(descriptor), frozenset(edges))
        return record_json(sign_entry(entry, self.realm.id, ca), certificate, descriptor)

    def gone(self, version: int, until: int = NOW + 1000) -> dict[str, Any]:
        entry = Entry(self.id, version, NOW - 1, until=until)
        return record_json(sign_entry(entry, self.realm.id, self.realm.keys[-1]))
