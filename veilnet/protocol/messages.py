# SPDX-License-Identifier: Apache-2.0
"""Control messages (docs/protocol.md, section 7): `type 1 | fields`, fixed lengths, integers little-endian.

A request carries an id that its answer repeats. REKEY and REKEYED are answered and matched by epoch.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import ClassVar

from veilnet.protocol.crypto import KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, X25519_LEN
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import LABEL_MAX

NODE_ID_LEN = 16
CHECK_LEN = 16


class Refusal(IntEnum):
    """Reason codes of REFUSED. A receiver takes an unknown code as UNSPECIFIED."""

    UNSPECIFIED = 0
    UNKNOWN_NODE = 1
    UNREACHABLE = 2
    FULL = 3
    POLICY = 4
    TIMEOUT = 5
    BAD_LABEL = 6
    DRAINING = 7


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages. TYPE is the first byte, LAYOUT the struct format of the fields in order."""

    TYPE: ClassVar[int]
    LAYOUT: ClassVar[struct.Struct]

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        """Names of fields that hold a label, at most LABEL_MAX."""
        return ()


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """First message under the keys of `epoch` (0 after a handshake)."""

    TYPE: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")
    epoch: int


@dataclass(frozen=True, slots=True)
class Ping(Message):
    TYPE: ClassVar[int] = 2
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")
    id: int


@dataclass(frozen=True, slots=True)
class Pong(Message):
    TYPE: ClassVar[int] = 3
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")
    id: int


@dataclass(frozen=True, slots=True)
class Rekey(Message):
    """RK1: X25519 public key 32 and ML-KEM-768 public key 1184 for `epoch`."""

    TYPE: ClassVar[int] = 4
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(f"<I{X25519_LEN}s{KEM_PUBLIC_LEN}s")
    epoch: int
    x: bytes
    ek: bytes


@dataclass(frozen=True, slots=True)
class Rekeyed(Message):
    """RK2: X25519 public key 32, ML-KEM-768 ciphertext 1088, key confirmation 16."""

    TYPE: ClassVar[int] = 5
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(f"<I{X25519_LEN}s{KEM_CIPHERTEXT_LEN}s{CHECK_LEN}s")
    epoch: int
    y: bytes
    ct: bytes
    check: bytes


@dataclass(frozen=True, slots=True)
class Create(Message):
    """CI1: make a circuit; `back_label` is the label for the way back."""

    TYPE: ClassVar[int] = 6
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<II")
    id: int
    back_label: int

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        return ("back_label",)


@dataclass(frozen=True, slots=True)
class Created(Message):
    TYPE: ClassVar[int] = 7
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<II")
    id: int
    label: int

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        return ("label",)


@dataclass(frozen=True, slots=True)
class Extend(Message):
    """CI2: `label` 0 means the circuit that the message came on; `node` is the next node id, 16 bytes."""

    TYPE: ClassVar[int] = 8
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(f"<II{NODE_ID_LEN}s")
    id: int
    label: int
    node: bytes

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        return ("label",)


@dataclass(frozen=True, slots=True)
class Extended(Message):
    TYPE: ClassVar[int] = 9
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")
    id: int


@dataclass(frozen=True, slots=True)
class Destroy(Message):
    TYPE: ClassVar[int] = 10
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")
    label: int

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        return ("label",)


@dataclass(frozen=True, slots=True)
class Close(Message):
    """The sender drops the session."""

    TYPE: ClassVar[int] = 11
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<")


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """Answer to a request that failed; `reason` is one of Refusal."""

    TYPE: ClassVar[int] = 12
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IB")
    id: int
    reason: int


_TYPES: dict[int, type[Message]] = {
    t.TYPE: t for t in (Ready, Ping, Pong, Rekey, Rekeyed, Create, Created, Extend, Extended, Destroy, Close, Refused)
}
MESSAGE_MAX = 1 + max(t.LAYOUT.size for t in _TYPES.values())


def _bad_label(message: Message) -> bool:
    zero_is_legal = isinstance(message, Extend)
    labels = [getattr(message, name) for name in message.labels()]
    return any(label > LABEL_MAX or (label == 0 and not zero_is_legal) for label in labels)


def encode_message(message: Message) -> bytes:
    """`type ‖ fields`. LocalError if a field does not fit its width, a byte field its length or a label its range."""
    values = astuple(message)
    try:
        fields = message.LAYOUT.pack(*values)
    except struct.error as error:
        raise LocalError(f"{type(message).__name__}: {error}") from None
    # struct pads and cuts byte strings silently
    if message.LAYOUT.unpack(fields) != values or _bad_label(message):
        raise LocalError(f"{type(message).__name__}: field of a wrong length or range")
    return bytes([message.TYPE]) + fields


def decode_message(data: bytes) -> Message:
    """Inverse of `encode_message`. RemoteError: KIND (unknown type), LENGTH (not exact), FIELD (label out of range)."""
    kind = _TYPES.get(data[0]) if data else None
    if kind is None:
        raise RemoteError(Reason.KIND, "control message")
    if len(data) != 1 + kind.LAYOUT.size:
        raise RemoteError(Reason.LENGTH, kind.__name__)
    message = kind(*kind.LAYOUT.unpack(data[1:]))
    if _bad_label(message):
        raise RemoteError(Reason.FIELD, kind.__name__)
    return message
