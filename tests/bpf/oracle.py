# SPDX-License-Identifier: Apache-2.0
"""Frames and packets by other means than ours: scapy for headers and checksums, `siphash24` for tags.

Written from docs/protocol.md sections 3 and 5; shares no code with `veilnet` or `bpf/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from siphash24 import siphash24

FRAME_LEN = 16
HS_LEN = 1232


@dataclass(frozen=True)
class Flow:
    """UDP 5-tuple of a packet as it travels."""

    src: str
    sport: int
    dst: str
    dport: int

    def back(self) -> Flow:
        return Flow(self.dst, self.dport, self.src, self.sport)


@dataclass(frozen=True)
class SipKey:
    mac: bytes
    enc: bytes


@dataclass(frozen=True)
class KnockKey:
    mac: bytes
    enc: bytes
    full: bytes


@dataclass(frozen=True)
class Frame:
    label: int
    budget: int
    counter: int
    body: bytes


def mac_bytes(index: int, end: int) -> bytes:
    """A locally administered MAC address per link and end."""
    return bytes([2, end, 0, 0, index >> 8 & 0xFF, index & 0xFF])


def sip(key: bytes, data: bytes) -> bytes:
    return bytes(siphash24(data, key=key).digest())


def seal_header(key: SipKey | KnockKey, header: bytes, body: bytes) -> bytes:
    """FR1, FR2 for 8 header bytes."""
    tag = sip(key.mac, header + body[:7])
    return tag + bytes(a ^ b for a, b in zip(header, sip(key.enc, tag), strict=True)) + body


def seal(key: SipKey, label: int, budget: int, counter: int, body: bytes) -> bytes:
    """UDP payload of a frame."""
    header = label.to_bytes(3, "little") + budget.to_bytes(1, "little") + counter.to_bytes(4, "little")
    return seal_header(key, header, body)


def unseal(key: SipKey, payload: bytes) -> Frame | None:
    """The frame in a UDP payload, or None if its tag is wrong."""
    tag, masked, body = payload[:8], payload[8:16], payload[16:]
    header = bytes(a ^ b for a, b in zip(masked, sip(key.enc, tag), strict=True))
    if sip(key.mac, header + body[:7]) != tag:
        return None
    label, counter = int.from_bytes(header[:3], "little"), int.from_bytes(header[4:], "little")
    return Frame(label, header[3], counter, body)


def handshake(key: KnockKey, body: bytes, label: int = 0, digest_xor: int = 0) -> bytes:
    """UDP payload of a handshake datagram (KN3); `label` and `digest_xor` make it wrong on purpose."""
    digest = int.from_bytes(sip(key.full, body), "little") & ((1 << 40) - 1) ^ digest_xor
    return seal_header(key, label.to_bytes(3, "little") + digest.to_bytes(5, "little"), body)


def packet(flow: Flow, payload: bytes, *, dst: bytes = b"\x02" * 6, src: bytes = b"\x06" * 6, **ip: Any) -> Packet:
    """Ethernet, IPv4, UDP as another host would send it (its own TTL, id, TOS and a UDP checksum)."""
    fields: dict[str, Any] = {"ttl": 57, "id": 0x1234, "tos": 0x10, "flags": 0} | ip
    return (
        Ether(dst=_mac(dst), src=_mac(src))
        / IP(src=flow.src, dst=flow.dst, **fields)
        / UDP(sport=flow.sport, dport=flow.dport)
        / Raw(payload)
    )


def sent(flow: Flow, payload: bytes, dst: bytes, src: bytes) -> bytes:
    """A whole outgoing packet: TTL 64, TOS 0, id 0, DF, no UDP checksum."""
    return bytes(
        Ether(dst=_mac(dst), src=_mac(src))
        / IP(src=flow.src, dst=flow.dst, ttl=64, tos=0, id=0, flags="DF")
        / UDP(sport=flow.sport, dport=flow.dport, chksum=0)
        / Raw(payload)
    )


def seal_stream(  # noqa: PLR0917 - the order of the wire
    key: bytes, hp: bytes, counter: int, lane: int, flags: int, inner: bytes, pad: int = 0
) -> bytes:
    """Body of a stream frame (ST1 to ST3)."""
    header = counter.to_bytes(4, "little") + pad.to_bytes(2, "little") + bytes([lane, flags])
    sealed = ChaCha20Poly1305(key).encrypt(bytes(4) + counter.to_bytes(8, "little"), bytes(pad) + inner, header)
    tag = sealed[-16:]
    return tag + bytes(a ^ b for a, b in zip(header, sip(hp, tag), strict=True)) + sealed[:-16]


def _mac(address: bytes) -> str:
    return address.hex(":")
