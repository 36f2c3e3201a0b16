# SPDX-License-Identifier: Apache-2.0
"""What the protocol core raises.

    VeilError
    ├── LocalError    our caller's fault: a wrong argument, a call out of order, a missing library
    └── RemoteError   the peer's fault, or that of somebody who poses as the peer; carries `.reason`

Any other exception that leaves `veilnet.protocol` is a bug. A call that raises has changed nothing.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why bytes from the network were refused. Names, never secrets: they are counted and logged."""

    LENGTH = "length"
    """Too short, too long, or not of the one length allowed."""
    TAG = "tag"
    """A frame or knock tag, or the digest of a knock's body, does not verify."""
    AUTH = "auth"
    """An AEAD or a key confirmation does not verify."""
    KIND = "kind"
    """Unknown kind of handshake datagram or type of control message, or one that this side never takes."""
    PADDING = "padding"
    """Bytes that must be zero are not."""
    FIELD = "field"
    """A field has a value outside of its range."""
    KEY = "key"
    """A public key or ciphertext that the primitive refuses, for example an X25519 point of low order."""
    REPLAY = "replay"
    """Counter or sequence seen before, or too old."""
    TIME = "time"
    """The sender's clock is too far from ours."""
    PEER = "peer"
    """Unknown or revoked node id, or our own."""
    STALE = "stale"
    """A biscuit that is too old or was made under a key that is gone."""
    EPOCH = "epoch"
    """A rekey message for an epoch that is not the next one."""
    STATE = "state"
    """Well formed, but not legal now."""
    BUDGET = "budget"
    """More than one peer may ask for in this time."""
    SLOT = "slot"
    """Names a key slot or lane that has no key."""


class VeilError(Exception):
    """Root of the tree."""


class LocalError(VeilError):
    """Our caller's fault."""


class RemoteError(VeilError):
    """The peer's fault; `reason` says which rule was broken."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
