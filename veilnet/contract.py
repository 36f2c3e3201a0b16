# SPDX-License-Identifier: Apache-2.0
"""GENERATED from bpf/contract.h by tools/gen_contract.py. Do not edit.

Constants carry their C name without VEIL_. Structures are those of the header; `__be` fields are read and written as
plain integers, ctypes stores them big-endian. REASONS stand in the order of `enum veil_reason`.
"""

from __future__ import annotations

import ctypes

_be16 = ctypes.c_uint16.__ctype_be__
_be32 = ctypes.c_uint32.__ctype_be__

SCHEMA_HASH = "43f791d6b6409ba3"

SCHEMA = 1
TAG_LEN = 8
HDR_LEN = 8
FRAME_LEN = 16
BIND_LEN = 7
FRAME_MIN = 32
AEAD_TAG_LEN = 16
SHDR_LEN = 8
STREAM_LEN = 24
ETH_LEN = 14
IP4_LEN = 20
IP6_LEN = 40
UDP_LEN = 8
OUTER4_LEN = 28
OUTER6_LEN = 48
OVERHEAD4 = 68
OVERHEAD6 = 88
HS_LEN = 1232
HS_BODY_LEN = 1216
INNER_MAX = 1472
EVENT_DATA_MAX = 1536
LINKS = 4096
LINK_BUCKETS = 4096
BUCKET_WAYS = 4
LABELS = 65536
STREAMS = 4096
ROUTES = 16384
NETWORKS = 16384
KNOCK_SEEN = 65536
EVENT_BYTES = 4194304
KNOCK_SOURCES = 16384
KNOCK_RATE = 256
KNOCK_BURST = 256
LINK_RATE = 512
LINK_BURST = 128
CIRCUIT_RATE = 8
CIRCUIT_BURST = 64
TRANSIT_RATE = 1024
TRANSIT_BURST = 256
SHARE_KNOCK = 512
SHARE_TRANSIT = 1024
SHARE_WAIT = 256
LINK_WIN_WORDS = 64
STREAM_WIN_WORDS = 128
COUNTER_LIMIT = 4294963200
REKEY_FRAMES = 16777216
L2_REFRESH_JIFFIES = 250
LANE_CONTROL = 255
SHDR_SLOT = 1
LINK_UNSET = 0
LINK_PENDING = 1
LINK_UP = 2
CIRCUIT_UNSET = 0
CIRCUIT_FORWARD = 1
CIRCUIT_LOCAL = 2
CIRCUIT_END = 3
CIRCUIT_F_HS_GRACE = 1
STREAM_UNSET = 0
STREAM_UP = 1
PEER_SELF = 4294967295
NETWORK_SCOPE_BITS = 32
SCOPE_TO = 0
PEER_NONE = 0
EMIT_TC = 0
EMIT_REDIRECT = 1
EVENT_KNOCK = 1
EVENT_CONTROL = 2
EVENT_NO_STREAM = 3
PART_KNOCK = 0
PART_TRANSIT = 1
PART_WAIT = 2
STATES = 32768
STATE_LEN = 1008
CTL_F_EMIT = 1
UNSET = 0
OK_FORWARD = 1
OK_OPEN = 2
OK_SEAL = 3
OK_SEAL_TC = 4
OK_EMIT = 5
OK_WAIT = 6
OK_KNOCK = 7
OK_CONTROL = 8
OK_CTL = 9
PASS_NOT_IP = 10
PASS_NOT_UDP = 11
PASS_IP_OPTIONS = 12
PASS_FRAGMENT = 13
PASS_TRUNCATED = 14
PASS_NO_LINK = 15
PASS_KNOCK_TAG = 16
PASS_KNOCK_BODY = 17
PASS_KNOCK_REPLAY = 18
PASS_LINK_TAG = 19
PASS_LINK_REPLAY = 20
DROP_LABEL = 21
DROP_BUDGET = 22
DROP_LINK_DOWN = 23
DROP_EXHAUSTED = 24
DROP_NO_ROUTE = 25
DROP_LOOP = 26
DROP_NO_NEIGH = 27
DROP_TOO_BIG = 28
DROP_EVENT_FULL = 29
DROP_KNOCK_RATE = 30
DROP_CONTROL_RATE = 31
DROP_STREAM_DOWN = 32
DROP_STREAM_HDR = 33
DROP_STREAM_AUTH = 34
DROP_STREAM_REPLAY = 35
DROP_INNER_BAD = 36
DROP_INNER_SRC = 37
DROP_INNER_NOT_OURS = 38
DROP_INNER_NOT_IP = 39
DROP_INNER_DST = 40
DROP_INNER_TOO_BIG = 41
DROP_HEADROOM = 42
DROP_CTL = 43
DROP_INTERNAL = 44
REASON_MAX = 45

REASONS: tuple[str, ...] = (
    "UNSET",
    "OK_FORWARD",
    "OK_OPEN",
    "OK_SEAL",
    "OK_SEAL_TC",
    "OK_EMIT",
    "OK_WAIT",
    "OK_KNOCK",
    "OK_CONTROL",
    "OK_CTL",
    "PASS_NOT_IP",
    "PASS_NOT_UDP",
    "PASS_IP_OPTIONS",
    "PASS_FRAGMENT",
    "PASS_TRUNCATED",
    "PASS_NO_LINK",
    "PASS_KNOCK_TAG",
    "PASS_KNOCK_BODY",
    "PASS_KNOCK_REPLAY",
    "PASS_LINK_TAG",
    "PASS_LINK_REPLAY",
    "DROP_LABEL",
    "DROP_BUDGET",
    "DROP_LINK_DOWN",
    "DROP_EXHAUSTED",
    "DROP_NO_ROUTE",
    "DROP_LOOP",
    "DROP_NO_NEIGH",
    "DROP_TOO_BIG",
    "DROP_EVENT_FULL",
    "DROP_KNOCK_RATE",
    "DROP_CONTROL_RATE",
    "DROP_STREAM_DOWN",
    "DROP_STREAM_HDR",
    "DROP_STREAM_AUTH",
    "DROP_STREAM_REPLAY",
    "DROP_INNER_BAD",
    "DROP_INNER_SRC",
    "DROP_INNER_NOT_OURS",
    "DROP_INNER_NOT_IP",
    "DROP_INNER_DST",
    "DROP_INNER_TOO_BIG",
    "DROP_HEADROOM",
    "DROP_CTL",
    "DROP_INTERNAL",
)
REASON_CLASS: dict[str, str] = {
    "UNSET": "DROP",
    "OK_FORWARD": "OK",
    "OK_OPEN": "OK",
    "OK_SEAL": "OK",
    "OK_SEAL_TC": "OK",
    "OK_EMIT": "OK",
    "OK_WAIT": "OK",
    "OK_KNOCK": "OK",
    "OK_CONTROL": "OK",
    "OK_CTL": "OK",
    "PASS_NOT_IP": "PASS",
    "PASS_NOT_UDP": "PASS",
    "PASS_IP_OPTIONS": "PASS",
    "PASS_FRAGMENT": "PASS",
    "PASS_TRUNCATED": "PASS",
    "PASS_NO_LINK": "PASS",
    "PASS_KNOCK_TAG": "PASS",
    "PASS_KNOCK_BODY": "PASS",
    "PASS_KNOCK_REPLAY": "PASS",
    "PASS_LINK_TAG": "PASS",
    "PASS_LINK_REPLAY": "PASS",
    "DROP_LABEL": "DROP",
    "DROP_BUDGET": "DROP",
    "DROP_LINK_DOWN": "DROP",
    "DROP_EXHAUSTED": "DROP",
    "DROP_NO_ROUTE": "DROP",
    "DROP_LOOP": "DROP",
    "DROP_NO_NEIGH": "DROP",
    "DROP_TOO_BIG": "DROP",
    "DROP_EVENT_FULL": "DROP",
    "DROP_KNOCK_RATE": "DROP",
    "DROP_CONTROL_RATE": "DROP",
    "DROP_STREAM_DOWN": "DROP",
    "DROP_STREAM_HDR": "DROP",
    "DROP_STREAM_AUTH": "DROP",
    "DROP_STREAM_REPLAY": "DROP",
    "DROP_INNER_BAD": "DROP",
    "DROP_INNER_SRC": "DROP",
    "DROP_INNER_NOT_OURS": "DROP",
    "DROP_INNER_NOT_IP": "DROP",
    "DROP_INNER_DST": "DROP",
    "DROP_INNER_TOO_BIG": "DROP",
    "DROP_HEADROOM": "DROP",
    "DROP_CTL": "DROP",
    "DROP_INTERNAL": "DROP",
}
REASON_TEXT: dict[str, str] = {
    "UNSET": "never counted: a program forgot its reason",
    "OK_FORWARD": "frame relayed to the next hop",
    "OK_OPEN": "stream frame opened, inner packet delivered",
    "OK_SEAL": "inner packet sealed and redirected",
    "OK_SEAL_TC": "inner packet sealed, emitted by TC",
    "OK_EMIT": "sealed frame sent by TC redirect_neigh",
    "OK_WAIT": "inner packet handed to keyd until its stream is up",
    "OK_KNOCK": "handshake frame handed to keyd",
    "OK_CONTROL": "control frame handed to keyd",
    "OK_CTL": "keyd's own frame sealed",
    "PASS_NOT_IP": "not IPv4",
    "PASS_NOT_UDP": "not UDP",
    "PASS_IP_OPTIONS": "IPv4 header with options",
    "PASS_FRAGMENT": "IPv4 fragment",
    "PASS_TRUNCATED": "shorter than its headers say, or than a frame",
    "PASS_NO_LINK": "unknown 5-tuple and not shaped as a knock",
    "PASS_KNOCK_TAG": "shaped as a knock, wrong tag",
    "PASS_KNOCK_BODY": "knock tag right, body digest wrong",
    "PASS_KNOCK_REPLAY": "knock seen before",
    "PASS_LINK_TAG": "known link, wrong tag",
    "PASS_LINK_REPLAY": "known link, counter seen before or too old",
    "DROP_LABEL": "label unknown, or not valid on this link",
    "DROP_BUDGET": "hop budget used up",
    "DROP_LINK_DOWN": "next link is not up",
    "DROP_EXHAUSTED": "send counter at its limit: rekey did not happen",
    "DROP_NO_ROUTE": "kernel has no route to the next hop",
    "DROP_LOOP": "kernel's route to the next hop leads into the overlay",
    "DROP_NO_NEIGH": "kernel has no neighbour entry for the next hop",
    "DROP_TOO_BIG": "frame longer than the next link's MTU",
    "DROP_EVENT_FULL": "event ring full",
    "DROP_KNOCK_RATE": "more knocks than one source may send, or than keyd keeps up with",
    "DROP_CONTROL_RATE": "more for keyd than one link or circuit may send, or than it keeps up with",
    "DROP_STREAM_DOWN": "stream, lane or key slot not in use",
    "DROP_STREAM_HDR": "stream header not well formed, or body too short or long",
    "DROP_STREAM_AUTH": "stream frame does not authenticate",
    "DROP_STREAM_REPLAY": "stream counter seen before or too old",
    "DROP_INNER_BAD": "opened packet is not well-formed IP",
    "DROP_INNER_SRC": "inner source is neither an address nor a network of the peer",
    "DROP_INNER_NOT_OURS": "opened packet is for no address or network of this node",
    "DROP_INNER_NOT_IP": "packet from the host is not IP, or cut short",
    "DROP_INNER_DST": "no node has the inner destination",
    "DROP_INNER_TOO_BIG": "inner packet longer than the overlay MTU",
    "DROP_HEADROOM": "driver gave no room for the outer headers",
    "DROP_CTL": "malformed seal request from keyd",
    "DROP_INTERNAL": "map look-up that can't fail failed",
}


class SipKey(ctypes.LittleEndianStructure):
    """`struct veil_sip_key`, 32 bytes."""

    mac: ctypes.Array[ctypes.c_uint64]
    enc: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("mac", ctypes.c_uint64 * 2),
        ("enc", ctypes.c_uint64 * 2),
    ]


class LinkRx(ctypes.LittleEndianStructure):
    """`struct veil_link_rx`, 64 bytes."""

    key: SipKey
    valid: int
    pad: int
    pad2: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("key", SipKey),
        ("valid", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("pad2", ctypes.c_uint64 * 3),
    ]


class LinkTx(ctypes.LittleEndianStructure):
    """`struct veil_link_tx`, 64 bytes."""

    key: SipKey
    counter: int
    pad: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("key", SipKey),
        ("counter", ctypes.c_uint64),
        ("pad", ctypes.c_uint64 * 3),
    ]


class L2(ctypes.LittleEndianStructure):
    """`struct veil_l2`, 24 bytes."""

    dmac: ctypes.Array[ctypes.c_uint8]
    smac: ctypes.Array[ctypes.c_uint8]
    ifindex: int
    stamp: int
    _fields_ = [
        ("dmac", ctypes.c_uint8 * 6),
        ("smac", ctypes.c_uint8 * 6),
        ("ifindex", ctypes.c_uint32),
        ("stamp", ctypes.c_uint64),
    ]


class Addrs(ctypes.LittleEndianStructure):
    """`struct veil_addrs`, 40 bytes."""

    remote: ctypes.Array[ctypes.c_uint8]
    local: ctypes.Array[ctypes.c_uint8]
    rport: int
    lport: int
    family: int
    _fields_ = [
        ("remote", ctypes.c_uint8 * 16),
        ("local", ctypes.c_uint8 * 16),
        ("rport", _be16),
        ("lport", _be16),
        ("family", ctypes.c_uint32),
    ]


class Link(ctypes.LittleEndianStructure):
    """`struct veil_link`, 1472 bytes."""

    state: int
    rx_hint: int
    tx_slot: int
    mtu: int
    rx_seen: int
    tx_seen: int
    rx_frames: int
    ifindex: int
    pad: ctypes.Array[ctypes.c_uint32]
    rx: ctypes.Array[LinkRx]
    tx: ctypes.Array[LinkTx]
    addrs: Addrs
    l2: L2
    full: ctypes.Array[ctypes.c_uint64]
    own_due: int
    transit_due: int
    pad2: ctypes.Array[ctypes.c_uint64]
    win: ctypes.Array[ctypes.Array[ctypes.c_uint64]]
    _fields_ = [
        ("state", ctypes.c_uint32),
        ("rx_hint", ctypes.c_uint32),
        ("tx_slot", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("rx_seen", ctypes.c_uint64),
        ("tx_seen", ctypes.c_uint64),
        ("rx_frames", ctypes.c_uint64),
        ("ifindex", ctypes.c_uint32),
        ("pad", ctypes.c_uint32 * 5),
        ("rx", LinkRx * 2),
        ("tx", LinkTx * 2),
        ("addrs", Addrs),
        ("l2", L2),
        ("full", ctypes.c_uint64 * 2),
        ("own_due", ctypes.c_uint64),
        ("transit_due", ctypes.c_uint64),
        ("pad2", ctypes.c_uint64 * 4),
        ("win", ctypes.c_uint64 * 64 * 2),
    ]


class LinkWay(ctypes.LittleEndianStructure):
    """`struct veil_link_way`, 16 bytes."""

    remote: int
    local: int
    rport: int
    lport: int
    link: int
    _fields_ = [
        ("remote", _be32),
        ("local", _be32),
        ("rport", _be16),
        ("lport", _be16),
        ("link", ctypes.c_uint32),
    ]


class LinkBucket(ctypes.LittleEndianStructure):
    """`struct veil_link_bucket`, 64 bytes."""

    way: ctypes.Array[LinkWay]
    _fields_ = [
        ("way", LinkWay * 4),
    ]


class Circuit(ctypes.LittleEndianStructure):
    """`struct veil_circuit`, 64 bytes."""

    kind: int
    in_link: int
    out_link: int
    out_label: int
    stream: int
    flags: int
    seen: int
    frames: int
    due: int
    pad: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("in_link", ctypes.c_uint32),
        ("out_link", ctypes.c_uint32),
        ("out_label", ctypes.c_uint32),
        ("stream", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("seen", ctypes.c_uint64),
        ("frames", ctypes.c_uint64),
        ("due", ctypes.c_uint64),
        ("pad", ctypes.c_uint64 * 2),
    ]


class StreamKey(ctypes.LittleEndianStructure):
    """`struct veil_stream_key`, 64 bytes."""

    key: ctypes.Array[ctypes.c_uint32]
    valid: int
    pad: int
    counter: int
    pad2: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("key", ctypes.c_uint32 * 8),
        ("valid", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("counter", ctypes.c_uint64),
        ("pad2", ctypes.c_uint64 * 2),
    ]


class Stream(ctypes.LittleEndianStructure):
    """`struct veil_stream`, 2432 bytes."""

    state: int
    peer: int
    out_link: int
    out_label: int
    tx_slot: int
    lane: int
    lanes: int
    budget: int
    rx_seen: int
    tx_seen: int
    rx_frames: int
    pad: int
    rx_hp: ctypes.Array[ctypes.c_uint64]
    tx_hp: ctypes.Array[ctypes.c_uint64]
    pad2: ctypes.Array[ctypes.c_uint64]
    rx: ctypes.Array[StreamKey]
    tx: ctypes.Array[StreamKey]
    win: ctypes.Array[ctypes.Array[ctypes.c_uint64]]
    _fields_ = [
        ("state", ctypes.c_uint32),
        ("peer", ctypes.c_uint32),
        ("out_link", ctypes.c_uint32),
        ("out_label", ctypes.c_uint32),
        ("tx_slot", ctypes.c_uint32),
        ("lane", ctypes.c_uint32),
        ("lanes", ctypes.c_uint32),
        ("budget", ctypes.c_uint32),
        ("rx_seen", ctypes.c_uint64),
        ("tx_seen", ctypes.c_uint64),
        ("rx_frames", ctypes.c_uint64),
        ("pad", ctypes.c_uint64),
        ("rx_hp", ctypes.c_uint64 * 2),
        ("tx_hp", ctypes.c_uint64 * 2),
        ("pad2", ctypes.c_uint64 * 4),
        ("rx", StreamKey * 2),
        ("tx", StreamKey * 2),
        ("win", ctypes.c_uint64 * 128 * 2),
    ]


class RouteKey(ctypes.LittleEndianStructure):
    """`struct veil_route_key`, 20 bytes."""

    prefixlen: int
    addr: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("prefixlen", ctypes.c_uint32),
        ("addr", ctypes.c_uint8 * 16),
    ]


class Route(ctypes.LittleEndianStructure):
    """`struct veil_route`, 8 bytes."""

    peer: int
    stream: int
    _fields_ = [
        ("peer", ctypes.c_uint32),
        ("stream", ctypes.c_uint32),
    ]


class NetworkKey(ctypes.LittleEndianStructure):
    """`struct veil_network_key`, 24 bytes."""

    prefixlen: int
    scope: int
    addr: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("prefixlen", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("addr", ctypes.c_uint8 * 16),
    ]


class KnockKey(ctypes.LittleEndianStructure):
    """`struct veil_knock_key`, 64 bytes."""

    mac: ctypes.Array[ctypes.c_uint64]
    enc: ctypes.Array[ctypes.c_uint64]
    full: ctypes.Array[ctypes.c_uint64]
    valid: int
    pad: int
    _fields_ = [
        ("mac", ctypes.c_uint64 * 2),
        ("enc", ctypes.c_uint64 * 2),
        ("full", ctypes.c_uint64 * 2),
        ("valid", ctypes.c_uint64),
        ("pad", ctypes.c_uint64),
    ]


class Config(ctypes.LittleEndianStructure):
    """`struct veil_config`, 192 bytes."""

    bucket_seed: int
    fib_ifindex: int
    veil0p_ifindex: int
    knock_port: int
    dark: int
    emit: int
    veil0_mac: ctypes.Array[ctypes.c_uint8]
    veil0p_mac: ctypes.Array[ctypes.c_uint8]
    inner_mtu: int
    veil0_ifindex: int
    pad: int
    pad2: ctypes.Array[ctypes.c_uint64]
    knock: ctypes.Array[KnockKey]
    _fields_ = [
        ("bucket_seed", ctypes.c_uint64),
        ("fib_ifindex", ctypes.c_uint32),
        ("veil0p_ifindex", ctypes.c_uint32),
        ("knock_port", _be16),
        ("dark", ctypes.c_uint16),
        ("emit", ctypes.c_uint32),
        ("veil0_mac", ctypes.c_uint8 * 6),
        ("veil0p_mac", ctypes.c_uint8 * 6),
        ("inner_mtu", ctypes.c_uint32),
        ("veil0_ifindex", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("pad2", ctypes.c_uint64 * 2),
        ("knock", KnockKey * 2),
    ]


class Event(ctypes.LittleEndianStructure):
    """`struct veil_event`, 1608 bytes."""

    type: int
    len: int
    link: int
    label: int
    stream: int
    peer: int
    ifindex: int
    slot: int
    addrs: Addrs
    data: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
        ("link", ctypes.c_uint32),
        ("label", ctypes.c_uint32),
        ("stream", ctypes.c_uint32),
        ("peer", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("addrs", Addrs),
        ("data", ctypes.c_uint8 * 1536),
    ]


class EventShare(ctypes.LittleEndianStructure):
    """`struct veil_event_share`, 64 bytes."""

    raised: ctypes.Array[ctypes.c_uint64]
    taken: ctypes.Array[ctypes.c_uint64]
    pad: ctypes.Array[ctypes.c_uint64]
    _fields_ = [
        ("raised", ctypes.c_uint64 * 3),
        ("taken", ctypes.c_uint64 * 3),
        ("pad", ctypes.c_uint64 * 2),
    ]


class StateKey(ctypes.LittleEndianStructure):
    """`struct veil_state_key`, 8 bytes."""

    kind: int
    index: int
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
    ]


class State(ctypes.LittleEndianStructure):
    """`struct veil_state`, 1024 bytes."""

    len: int
    version: int
    stamp: int
    data: ctypes.Array[ctypes.c_uint8]
    _fields_ = [
        ("len", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("stamp", ctypes.c_uint64),
        ("data", ctypes.c_uint8 * 1008),
    ]


class CtlReq(ctypes.LittleEndianStructure):
    """`struct veil_ctl_req`, 16 bytes."""

    link: int
    label: int
    budget: int
    flags: int
    _fields_ = [
        ("link", ctypes.c_uint32),
        ("label", ctypes.c_uint32),
        ("budget", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


STRUCTS: dict[str, type[ctypes.LittleEndianStructure]] = {
    "veil_sip_key": SipKey,
    "veil_link_rx": LinkRx,
    "veil_link_tx": LinkTx,
    "veil_l2": L2,
    "veil_addrs": Addrs,
    "veil_link": Link,
    "veil_link_way": LinkWay,
    "veil_link_bucket": LinkBucket,
    "veil_circuit": Circuit,
    "veil_stream_key": StreamKey,
    "veil_stream": Stream,
    "veil_route_key": RouteKey,
    "veil_route": Route,
    "veil_network_key": NetworkKey,
    "veil_knock_key": KnockKey,
    "veil_config": Config,
    "veil_event": Event,
    "veil_event_share": EventShare,
    "veil_state_key": StateKey,
    "veil_state": State,
    "veil_ctl_req": CtlReq,
}
