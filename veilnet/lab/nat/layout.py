# SPDX-License-Identifier: Apache-2.0
"""GENERATED from veilnet/lab/nat/layout.h by tools/gen_contract.py. Do not edit.

Constants carry their C name without VEIL_. Structures are those of the header; `__be` fields are read and written as
plain integers, ctypes stores them big-endian. REASONS stand in the order of `enum veil_reason`.
"""

from __future__ import annotations

import ctypes

_be16 = ctypes.c_uint16.__ctype_be__
_be32 = ctypes.c_uint32.__ctype_be__

SCHEMA_HASH = "a441aee126f1a6bd"

NAT_ENTRIES = 32768
NAT_FRAGMENTS = 1024
NAT_TRIES = 64
NAT_ENDPOINT_INDEPENDENT = 0
NAT_ADDRESS_DEPENDENT = 1
NAT_ADDRESS_AND_PORT_DEPENDENT = 2
NAT_PORTS_PRESERVE = 0
NAT_PORTS_RANDOM = 1
NAT_PORTS_SEQUENTIAL = 2
NAT_UNSET = 0
NAT_OK_OUT = 1
NAT_OK_IN = 2
NAT_OK_HAIRPIN = 3
NAT_OK_ERROR = 4
NAT_OK_FRAGMENT = 5
NAT_PASS = 6
NAT_DROP_SHORT = 7
NAT_DROP_NO_MAPPING = 8
NAT_DROP_FILTERED = 9
NAT_DROP_NO_PORT = 10
NAT_DROP_HAIRPIN = 11
NAT_DROP_FRAGMENT = 12
NAT_DROP_PRIVATE = 13
NAT_DROP_ICMP = 14
REASON_MAX = 15

REASONS: tuple[str, ...] = (
    "NAT_UNSET",
    "NAT_OK_OUT",
    "NAT_OK_IN",
    "NAT_OK_HAIRPIN",
    "NAT_OK_ERROR",
    "NAT_OK_FRAGMENT",
    "NAT_PASS",
    "NAT_DROP_SHORT",
    "NAT_DROP_NO_MAPPING",
    "NAT_DROP_FILTERED",
    "NAT_DROP_NO_PORT",
    "NAT_DROP_HAIRPIN",
    "NAT_DROP_FRAGMENT",
    "NAT_DROP_PRIVATE",
    "NAT_DROP_ICMP",
)
REASON_CLASS: dict[str, str] = {
    "NAT_UNSET": "DROP",
    "NAT_OK_OUT": "OK",
    "NAT_OK_IN": "OK",
    "NAT_OK_HAIRPIN": "OK",
    "NAT_OK_ERROR": "OK",
    "NAT_OK_FRAGMENT": "OK",
    "NAT_PASS": "PASS",
    "NAT_DROP_SHORT": "DROP",
    "NAT_DROP_NO_MAPPING": "DROP",
    "NAT_DROP_FILTERED": "DROP",
    "NAT_DROP_NO_PORT": "DROP",
    "NAT_DROP_HAIRPIN": "DROP",
    "NAT_DROP_FRAGMENT": "DROP",
    "NAT_DROP_PRIVATE": "DROP",
    "NAT_DROP_ICMP": "DROP",
}
REASON_TEXT: dict[str, str] = {
    "NAT_UNSET": "never counted: a program forgot its reason",
    "NAT_OK_OUT": "translated, inside to outside",
    "NAT_OK_IN": "translated, outside to inside",
    "NAT_OK_HAIRPIN": "translated twice, inside to inside",
    "NAT_OK_ERROR": "ICMP error translated, the quoted packet with it",
    "NAT_OK_FRAGMENT": "later fragment translated like its first",
    "NAT_PASS": "left to the kernel: not IPv4, not UDP or ICMP, or the node's own",
    "NAT_DROP_SHORT": "shorter than its headers say",
    "NAT_DROP_NO_MAPPING": "to a port that no mapping holds",
    "NAT_DROP_FILTERED": "mapping does not let this remote endpoint in",
    "NAT_DROP_NO_PORT": "no free port for a new mapping",
    "NAT_DROP_HAIRPIN": "inside to inside by the public address, and hairpinning is off",
    "NAT_DROP_FRAGMENT": "fragment whose first one has not been seen",
    "NAT_DROP_PRIVATE": "from outside to another address than the public one",
    "NAT_DROP_ICMP": "ICMP message that a NAT does not carry, or that quotes no mapping",
}


class NatConfig(ctypes.LittleEndianStructure):
    """`struct veil_nat_config`, 56 bytes."""

    udp_timeout: int
    icmp_timeout: int
    seed: int
    allocated: int
    address: int
    epoch: int
    port_low: int
    port_high: int
    mapping: int
    filtering: int
    ports: int
    hairpin: int
    inbound_refresh: int
    pad: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("udp_timeout", ctypes.c_uint64),
        ("icmp_timeout", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("allocated", ctypes.c_uint64),
        ("address", _be32),
        ("epoch", ctypes.c_uint32),
        ("port_low", _be16),
        ("port_high", _be16),
        ("mapping", ctypes.c_uint8),
        ("filtering", ctypes.c_uint8),
        ("ports", ctypes.c_uint8),
        ("hairpin", ctypes.c_uint8),
        ("inbound_refresh", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 7),
    ]


class NatFlow(ctypes.LittleEndianStructure):
    """`struct veil_nat_flow`, 16 bytes."""

    inside: int
    remote: int
    port: int
    remote_port: int
    proto: int
    pad: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("inside", _be32),
        ("remote", _be32),
        ("port", _be16),
        ("remote_port", _be16),
        ("proto", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
    ]


class NatPort(ctypes.LittleEndianStructure):
    """`struct veil_nat_port`, 4 bytes."""

    port: int
    proto: int
    pad: int
    _fields_ = [
        ("port", _be16),
        ("proto", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
    ]


class NatMapping(ctypes.LittleEndianStructure):
    """`struct veil_nat_mapping`, 40 bytes."""

    flow: NatFlow
    created: int
    used: int
    epoch: int
    pad: int
    _fields_ = [
        ("flow", NatFlow),
        ("created", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("epoch", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


class NatPermit(ctypes.LittleEndianStructure):
    """`struct veil_nat_permit`, 24 bytes."""

    created: int
    remote: int
    remote_port: int
    port: int
    proto: int
    pad: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("created", ctypes.c_uint64),
        ("remote", _be32),
        ("remote_port", _be16),
        ("port", _be16),
        ("proto", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 7),
    ]


class NatFragment(ctypes.LittleEndianStructure):
    """`struct veil_nat_fragment`, 12 bytes."""

    source: int
    destination: int
    id: int
    proto: int
    pad: int
    _fields_ = [
        ("source", _be32),
        ("destination", _be32),
        ("id", _be16),
        ("proto", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
    ]


class NatRewrite(ctypes.LittleEndianStructure):
    """`struct veil_nat_rewrite`, 8 bytes."""

    source: int
    destination: int
    _fields_ = [
        ("source", _be32),
        ("destination", _be32),
    ]


STRUCTS: dict[str, type[ctypes.LittleEndianStructure]] = {
    "veil_nat_config": NatConfig,
    "veil_nat_flow": NatFlow,
    "veil_nat_port": NatPort,
    "veil_nat_mapping": NatMapping,
    "veil_nat_permit": NatPermit,
    "veil_nat_fragment": NatFragment,
    "veil_nat_rewrite": NatRewrite,
}
