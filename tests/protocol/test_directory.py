# SPDX-License-Identifier: Apache-2.0
"""Documents of section 10: what is accepted, and that everything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from veilnet.protocol import directory as d
from veilnet.protocol.envelope import (
    DOCUMENT_MAX,
    Envelope,
    canonical_json,
    open_envelope,
    read_envelope,
    sign_document,
    strict_json,
)
from veilnet.protocol.trust import Trust

NOW = 1_800_000_000
CA = MLDSA65PrivateKey.generate()
CA_KEY = CA.public_key().public_bytes_raw()
REALM = d.key_id(CA_KEY)
TRUST = Trust.root(CA_KEY)
OTHER_CA = MLDSA65PrivateKey.generate()


class Node:
    def __init__(self, number: int) -> None:
        self.private = MLDSA65PrivateKey.generate()
        self.key = self.private.public_key().public_bytes_raw()
        self.id = d.key_id(self.key)
        self.number = number
        self.certificate = d.Certificate(
            realm=REALM,
            node=self.id,
            key=self.key,
            name=f"node-{number}",
            roles=frozenset({"guardian"}),
            ipv4=IPv4Address(f"10.90.0.{number}"),
            ipv6=IPv6Address(f"fd00::{number}"),
            taints=frozenset(),
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

    def entry(self, **changes: Any) -> tuple[Envelope, Envelope]:
        certificate = d.sign_certificate(replace(self.certificate, **changes), CA)
        return certificate, d.sign_descriptor(self.descriptor, self.private)


NODES = [Node(1), Node(2), Node(3)]
ONE, TWO, THREE = NODES


def certificate_with(networks: Any) -> d.Certificate:
    """As it reads when its signed document says `networks` so."""
    document = json.loads(d.sign_certificate(ONE.certificate, CA).payload) | {"networks": networks}
    return d.verify_certificate(sign_document(document, CA, d.CERT_CONTEXT), TRUST, NOW)


def test_networks_of_a_certificate() -> None:
    networks = (ip_network("192.168.7.0/24"), ip_network("2001:db8:7::/48"), ip_network("0.0.0.0/0"))
    certificate, descriptor = ONE.entry(networks=networks)
    read = d.verify_certificate(certificate, TRUST, NOW)
    assert read.networks == networks
    assert d.node_view(read, d.verify_descriptor(descriptor, ONE.key, NOW)).networks == networks


def test_a_certificate_without_networks_is_as_it_was() -> None:
    """So that nodes of before can read it."""
    assert "networks" not in json.loads(d.sign_certificate(ONE.certificate, CA).payload)


@pytest.mark.parametrize(
    "networks",
    [
        [],
        "192.168.7.0/24",
        ["192.168.7.1/24"],
        ["192.168.7.0"],
        ["192.168.7.0/255.255.255.0"],
        ["192.168.7.0/24", "192.168.7.0/24"],
        ["2001:DB8::/32"],
        ["fe80::%1/64"],
        [4],
        [None],
        [f"10.{i}.0.0/16" for i in range(65)],
    ],
)
def test_networks_that_are_not_well_formed(networks: Any) -> None:
    with pytest.raises(d.MalformedDocument):
        certificate_with(networks)


def test_certificate_errors_have_names() -> None:
    cases: list[tuple[Envelope, type[d.DirectoryError]]] = [
        (d.sign_certificate(ONE.certificate, ONE.private), d.SelfSigned),
        (d.sign_certificate(ONE.certificate, TWO.private), d.WrongSigner),
        (d.sign_certificate(replace(ONE.certificate, realm=b"\1" * 16), CA), d.WrongRealm),
        (d.sign_certificate(replace(ONE.certificate, key=TWO.key), CA), d.MalformedDocument),
        (d.sign_certificate(replace(ONE.certificate, not_after=NOW), CA), d.Expired),
        (d.sign_certificate(replace(ONE.certificate, not_before=NOW + 301), CA), d.NotYetValid),
        (d.sign_certificate(replace(ONE.certificate, roles=frozenset({"root"})), CA), d.MalformedDocument),
        (d.sign_certificate(replace(ONE.certificate, name="Näme"), CA), d.MalformedDocument),
        (d.sign_certificate(replace(ONE.certificate, ipv6=IPv6Address("::ffff:10.9.0.1")), CA), d.MalformedDocument),
        (sign_document({"node": ONE.id.hex()}, CA, d.CERT_CONTEXT), d.MalformedDocument),
        (replace(d.sign_certificate(ONE.certificate, OTHER_CA), key=REALM), d.BadSignature),
    ]
    for envelope, error in cases:
        with pytest.raises(d.DirectoryError) as caught:
            d.verify_certificate(envelope, TRUST, NOW)
        assert caught.type is error
    assert d.verify_certificate(ONE.entry()[0].encode(), TRUST, NOW) == ONE.certificate


def test_a_signature_counts_for_its_kind_of_document_only() -> None:
    payload = strict_json(d.sign_certificate(ONE.certificate, CA).payload, DOCUMENT_MAX)
    with pytest.raises(d.BadSignature):
        d.verify_certificate(sign_document(payload, CA, d.DESCRIPTOR_CONTEXT), TRUST, NOW)


def test_descriptor_errors_have_names() -> None:
    def signed(**changes: Any) -> Envelope:
        return d.sign_descriptor(replace(ONE.descriptor, **changes), ONE.private)

    cases: list[tuple[Envelope, type[d.DirectoryError]]] = [
        (signed(node=TWO.id), d.WrongSigner),
        (signed(expires=NOW), d.Expired),
        (signed(issued=NOW + 301), d.NotYetValid),
        (signed(x25519=b"short"), d.MalformedDocument),
        (signed(endpoints=((IPv4Address("192.0.2.1"), 0),)), d.MalformedDocument),
        (signed(endpoints=((IPv4Address("224.0.0.1"), 1),)), d.MalformedDocument),
        (signed(endpoints=((IPv6Address("fe80::1%eth0"), 1),)), d.MalformedDocument),
        (signed(endpoints=((IPv4Address("192.0.2.1"), 1),) * 9), d.MalformedDocument),
        (d.sign_descriptor(ONE.descriptor, TWO.private), d.WrongSigner),
    ]
    for envelope, error in cases:
        with pytest.raises(d.DirectoryError) as caught:
            d.verify_descriptor(envelope, ONE.key, NOW)
        assert caught.type is error
    assert d.verify_descriptor(signed(), ONE.key, NOW) == ONE.descriptor


def test_unknown_and_missing_fields_are_refused() -> None:
    payload = strict_json(ONE.entry()[1].payload, DOCUMENT_MAX)
    for changed in ({**payload, "extra": 1}, {name: value for name, value in payload.items() if name != "serial"}):
        with pytest.raises(d.MalformedDocument):
            d.verify_descriptor(sign_document(changed, ONE.private, d.DESCRIPTOR_CONTEXT), ONE.key, NOW)
    envelope = ONE.entry()[1].as_json()
    with pytest.raises(d.MalformedDocument, match="unknown field 'more'"):
        read_envelope({**envelope, "more": ""})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'{"a":1,"a":1}',
        b'{"a":NaN}',
        b'{"a":1.5}',
        b"\xff",
        b"[" * 100_000,
        b'{"payload":"","sig":""}',
    ],
)
def test_what_is_not_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(d.MalformedDocument):
        read_envelope(data, 10**6)


@pytest.mark.parametrize("text", ["AA", "AA=", "AB==", "AA==\n", "A A=", "AA-_"])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(d.MalformedDocument):
        read_envelope({**ONE.entry()[0].as_json(), "payload": text})


def test_oversized_documents_are_refused_unread() -> None:
    with pytest.raises(d.MalformedDocument, match="at most"):
        read_envelope(b" " * (DOCUMENT_MAX + 1))
    with pytest.raises(d.MalformedDocument, match="at most"):
        read_envelope({**ONE.entry()[0].as_json(), "payload": "AAAA" * (DOCUMENT_MAX // 3 + 1)})


def test_every_truncation_is_refused() -> None:
    data = ONE.entry()[1].encode()
    for length in range(len(data)):
        with pytest.raises(d.DirectoryError):
            d.verify_descriptor(data[:length], ONE.key, NOW)


def test_every_flipped_bit_is_refused() -> None:
    """Every bit of the signed bytes and of the signature's first kilobyte, one at a time."""
    envelope = ONE.entry()[0]
    for bit in range(8 * 1024):
        payload = bytearray(envelope.payload)
        sig = bytearray(envelope.sig)
        payload[bit // 8 % len(payload)] ^= 1 << bit % 8
        sig[bit // 8] ^= 1 << bit % 8
        for changed in (replace(envelope, payload=bytes(payload)), replace(envelope, sig=bytes(sig))):
            with pytest.raises(d.DirectoryError):
                d.verify_certificate(changed, TRUST, NOW)


@given(
    st.binary(max_size=400)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_arbitrary_bytes_raise_nothing_but_directory_errors(data: bytes) -> None:
    with pytest.raises(d.DirectoryError):
        read_envelope(data)


@given(
    st.dictionaries(
        st.sampled_from(["node", "serial", "x25519", "mlkem768", "knock", "endpoints", "issued", "expires"]),
        st.none() | st.integers() | st.text(max_size=40) | st.lists(st.text(max_size=4)),
    )
)
def test_signed_nonsense_raises_nothing_but_directory_errors(payload: dict[str, Any]) -> None:
    with pytest.raises(d.DirectoryError):
        d.verify_descriptor(sign_document(payload, ONE.private, d.DESCRIPTOR_CONTEXT), ONE.key, NOW)


def test_encoding_is_canonical() -> None:
    envelope = ONE.entry()[0]
    assert read_envelope(envelope.encode()) == envelope
    assert canonical_json({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}'
    assert open_envelope(envelope, CA_KEY, d.CERT_CONTEXT)["name"] == "node-1"
