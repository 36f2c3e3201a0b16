# SPDX-License-Identifier: Apache-2.0
"""What the realm CA signs for its nodes: one head, and one record a node (docs/protocol.md section 10).

A record is the same bytes for everybody who may see it, and is signed once, when the node, its descriptor or its edges
change. Its entry binds certificate and descriptor by their digests, so neither can be mixed with another's. An edge
stands in one of its two records (`edge_owner`), so that a change touches one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.protocol.documents import CLOCK_SKEW, Certificate, Descriptor, open_certificate, open_descriptor
from veilnet.protocol.envelope import (
    Envelope,
    Fields,
    MalformedDocument,
    WrongRealm,
    WrongSigner,
    open_envelope,
    read_envelope,
    read_id,
    sign_document,
    strict_json,
)
from veilnet.protocol.names import NO_NAMES, Names, read_records, records_json
from veilnet.protocol.policy import Policy, policy_json, read_policy
from veilnet.protocol.trust import SUCCESSIONS_MAX, Trust

HEAD_CONTEXT: Final = b"veilnet/head/1"
ENTRY_CONTEXT: Final = b"veilnet/entry/1"
HEAD_MAX: Final = 2 * 1024 * 1024
RECORD_MAX: Final = 1024 * 1024
EDGES_MAX: Final = 4096
"""Edges in one record."""
SETTINGS_MAX: Final = 64
SETTING_MAX: Final = 2**53
"""Integers that a clock in floating point can be added to."""

SUFFIX: Final = "dns_suffix"
"""The setting that says what all names of the realm end in."""

Settings = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Head:
    """What holds for the whole realm. `trust` are the realm's keys as of this head; records of a version below
    `floor` were signed before the Master was restored from a backup, and do not count any more."""

    version: int
    issued: int
    expires: int
    settings: Settings
    policy: Policy
    trust: Trust
    floor: int = 0
    names: Names = NO_NAMES


@dataclass(frozen=True, slots=True)
class Entry:
    """The CA's word on one node. `edges`: neighbours that this record lists; `until`: the node is gone, and nothing
    that was ever certified of it outlives this time."""

    node: bytes
    version: int
    issued: int
    certificate: str = ""
    descriptor: str = ""
    edges: frozenset[bytes] = frozenset()
    until: int | None = None
    draining: bool = False
    """No new circuit should go through it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record; a node that is gone has neither certificate nor descriptor."""

    entry: Entry
    signers: frozenset[bytes]
    """Ids of the CA keys that have signed entry and certificate."""
    certificate: Certificate | None = None
    descriptor: Descriptor | None = None

    @property
    def not_after(self) -> int:
        """When the last of it has run out."""
        if self.certificate is None or self.descriptor is None:
            return self.entry.until or 0
        return min(self.certificate.not_after, self.descriptor.expires)

    def counts(self, now: int) -> bool:
        """Whether everything in it is valid at this time."""
        if self.certificate is None or self.descriptor is None:
            return False
        begun = max(self.certificate.not_before, self.descriptor.issued, self.entry.issued)
        return begun <= now + CLOCK_SKEW and now < self.not_after


def edge_owner(one: bytes, one_relays: bool, other: bytes, other_relays: bool) -> bytes:
    """Which record lists the edge: that of the node which is no Guardian, so that a busy Guardian's stays small and
    still; of two alike, that of the smaller id."""
    if one_relays != other_relays:
        return other if one_relays else one
    return min(one, other)


def digest(envelope: Envelope) -> str:
    """SHA-256 of an envelope's canonical bytes, hexadecimal: what an entry binds."""
    return hashlib.sha256(envelope.encode()).hexdigest()


# ---- signing: realm CA -------------------------------------------------------------------------------------------


def sign_head(
    *,
    ca_key: MLDSA65PrivateKey,
    realm: bytes,
    version: int,
    issued: int,
    expires: int,
    settings: Settings,
    policy: Policy,
    chain: Sequence[Envelope] = (),
    retired: int = 0,
    floor: int = 0,
    names: Names = NO_NAMES,
) -> Envelope:
    # ID3
    document: dict[str, Any] = {
        "realm": realm.hex(),
        "version": version,
        "issued": issued,
        "expires": expires,
        "settings": {**settings, **({SUFFIX: names.suffix} if names.suffix else {})},
        "policy": policy_json(policy),
        "ca": [envelope.as_json() for envelope in chain],
        "retired": retired,
    }
    if floor:
        document["floor"] = floor
    if names.records:  # only then: who does not know the field refuses it
        document["dns"] = records_json(names.records)
    return sign_document(document, ca_key, HEAD_CONTEXT)


def sign_entry(entry: Entry, realm: bytes, ca_key: MLDSA65PrivateKey) -> Envelope:
    # ID4
    document: dict[str, Any] = {
        "realm": realm.hex(),
        "node": entry.node.hex(),
        "version": entry.version,
        "issued": entry.issued,
    }
    if entry.until is not None:
        document["until"] = entry.until
    else:
        document["cert"], document["descriptor"] = entry.certificate, entry.descriptor
        document["edges"] = sorted(node.hex() for node in entry.edges)
        if entry.draining:  # only then: who does not know the field refuses it
            document["draining"] = True
    return sign_document(document, ca_key, ENTRY_CONTEXT)


def record_json(
    entry: Envelope, certificate: Envelope | None = None, descriptor: Envelope | None = None
) -> dict[str, Any]:
    """A record as it travels and lies on disk."""
    record: dict[str, Any] = {"entry": entry.as_json()}
    if certificate is not None and descriptor is not None:
        record["cert"], record["descriptor"] = certificate.as_json(), descriptor.as_json()
    return record


# ---- verifying ---------------------------------------------------------------------------------------------------


def open_head(data: bytes | Mapping[str, Any], trust: Trust) -> Head:
    """The head, under a key that `trust` and the head's own successions make trusted. The time is not looked at."""
    # ID3, ID5
    envelope = read_envelope(data, HEAD_MAX)
    # the successions stand inside, so they are read before the signature over them counts; each carries its own
    stated = Fields(strict_json(envelope.payload, HEAD_MAX), "head")
    chain = [read_envelope(item) for item in stated.array("ca", SUCCESSIONS_MAX)]
    extended = trust.extended(chain, stated.integer("retired"))
    fields = Fields(open_envelope(envelope, extended.signer(envelope.key), HEAD_CONTEXT), "head")
    if fields.id("realm") != trust.realm:
        raise WrongRealm("head is of another realm")
    settings = _settings(fields.take("settings"))
    head = Head(
        fields.integer("version"),
        fields.integer("issued"),
        fields.integer("expires"),
        settings,
        read_policy(fields.take("policy")),
        extended,
        fields.integer("floor") if fields.has("floor") else 0,
        Names(str(settings.get(SUFFIX, "")), read_records(fields.take("dns") if fields.has("dns") else {})),
    )
    fields.take("ca"), fields.take("retired")
    fields.end()
    if head.floor > head.version:
        raise MalformedDocument("head: its floor is above its own version")
    return head


def open_record(
    data: bytes | Mapping[str, Any], trust: Trust, held: Callable[[bytes], Record | None] = lambda node: None
) -> Record:
    """A record whose three signatures verify and belong together. The time is not looked at.

    What `held`, asked for a node, has of the same digest is not verified again.
    """
    # ID4
    fields = Fields(strict_json(data, RECORD_MAX) if isinstance(data, bytes) else data, "record")
    signed = read_envelope(fields.take("entry"), RECORD_MAX)
    entry = _entry(signed, trust)
    if entry.until is not None:
        fields.end()
        return Record(entry, frozenset({signed.key}))
    known = held(entry.node)
    cert, descriptor = read_envelope(fields.take("cert")), read_envelope(fields.take("descriptor"))
    fields.end()
    if (digest(cert), digest(descriptor)) != (entry.certificate, entry.descriptor):
        raise WrongSigner("record: certificate or descriptor is not the one that the entry binds")
    certificate = _opened_certificate(cert, trust, entry, known)
    if certificate.node != entry.node:
        raise WrongSigner("record: certificate is of another node than the entry")
    signers = frozenset({signed.key, cert.key})
    if known is not None and known.descriptor is not None and known.entry.descriptor == entry.descriptor:
        return Record(entry, signers, certificate, known.descriptor)
    return Record(entry, signers, certificate, open_descriptor(descriptor, certificate.key))


def _opened_certificate(envelope: Envelope, trust: Trust, entry: Entry, known: Record | None) -> Certificate:
    """Its signer must be trusted now, also where its signature was verified before."""
    if known is not None and known.certificate is not None and known.entry.certificate == entry.certificate:
        trust.signer(envelope.key)
        return known.certificate
    return open_certificate(envelope, trust)


def _entry(envelope: Envelope, trust: Trust) -> Entry:
    fields = Fields(open_envelope(envelope, trust.signer(envelope.key), ENTRY_CONTEXT), "entry")
    if fields.id("realm") != trust.realm:
        raise WrongRealm("entry is of another realm")
    node, version, issued = fields.id("node"), fields.integer("version"), fields.integer("issued")
    if fields.has("until"):
        entry = Entry(node, version, issued, until=fields.integer("until"))
    else:
        edges = frozenset(read_id(item, "edge") for item in fields.array("edges", EDGES_MAX))
        draining = fields.has("draining") and fields.take("draining")
        if type(draining) is not bool:
            raise MalformedDocument("entry: draining is not true or false")
        entry = Entry(node, version, issued, fields.text("cert"), fields.text("descriptor"), edges, draining=draining)
    fields.end()
    return entry


def _settings(value: Any) -> Settings:
    """Open to new names, so that a Master may know more settings than a node: short names, integers and short texts."""
    if not isinstance(value, dict) or len(value) > SETTINGS_MAX:
        raise MalformedDocument("head: settings are not a small object")
    for name, item in value.items():
        small = abs(item) <= SETTING_MAX if type(item) is int else isinstance(item, str) and len(item) <= 256
        if len(name) > 64 or not small:
            raise MalformedDocument("head: a setting is not an integer or a short text")
    return MappingProxyType(value)
