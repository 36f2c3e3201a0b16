# SPDX-License-Identifier: Apache-2.0
"""A session: keys of an epoch, control channel, rekey (docs/protocol.md, sections 6 "Session keys", 7 and 8).

Order of a rekey for the caller; every message goes through `seal` and `open`, so under the right control key:

    initiator                                        responder
    start_rekey() → REKEY, repeat until answered →   on_rekey() → REKEYED and KeysReady: install rx and tx,
                                                     tx not selected; save; answer under the old control key
    on_rekeyed() → KeysReady: install rx and tx,  ←
    save, select tx, send READY(epoch)           →   open() or peer_switched(), then take_switch(): save, select tx
    retire() 20 s later, or by itself on a control message under the new key

Save `to_bytes()` after each `seal`, `open` and rekey method: an older copy would let control messages of the time
between be replayed. Keys go into the data plane before the save, tx is selected after it. After a restart select the
slot of `keys()`, and never write a transmit key into a slot that has sent: its counter would start again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from veilnet.protocol.control import ControlChannel
from veilnet.protocol.crypto import KEM_SEED_LEN, X25519_LEN, Provider, Rng, h, require, wipe
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import SIP_KEY_LEN
from veilnet.protocol.messages import CHECK_LEN, Message, Rekey, Rekeyed, decode_message, encode_message
from veilnet.protocol.transcript import Mode

REKEY_SECONDS = 120.0
RETIRE_SECONDS = 20.0
SECRET_LEN = 32
EPOCH_MAX = (1 << 32) - 1
STATE_VERSION = 1
# version, mode, initiator, parts present, epoch, ck, tx hp, rx hp, last tx, last rx, next ck, digest of the request
# that made it, previous receive control key, private keys of the pending rekey
_STATE = struct.Struct(f"<BBBBI32s{SIP_KEY_LEN}s{SIP_KEY_LEN}sQQ32s32s32s{X25519_LEN}s{KEM_SEED_LEN}s")
_HAS_NEXT, _HAS_PREVIOUS, _HAS_PENDING = 1, 2, 4
STATE_LEN = _STATE.size
RESTORE_SKIP = 1 << 20
"""Sequences skipped after a restart, in case the copy is a few messages old and the clock went back."""


class DirectionKeys:
    """Keys of one direction ("i2r" or "r2i") and one epoch, derived on demand from ck."""

    __slots__ = ("_ck", "_name")

    def __init__(self, ck: bytes, name: bytes) -> None:
        self._ck = ck
        self._name = name

    @property
    def mac(self) -> bytes:
        """16 bytes, mode link."""
        return h(self._ck, self._name + b" mac")[:SIP_KEY_LEN]  # SK1

    @property
    def enc(self) -> bytes:
        """16 bytes, mode link."""
        return h(self._ck, self._name + b" enc")[:SIP_KEY_LEN]  # SK1

    def stream_key(self, lane: int) -> bytes:
        """32 bytes, mode stream, lane 0 to 254."""
        return h(self._ck, self._name + b" key lane ", bytes([lane]))  # SK2

    @property
    def hp(self) -> bytes:
        """16 bytes; of epoch 0 only, lasts for the session."""
        return h(self._ck, self._name + b" hp")[:SIP_KEY_LEN]  # SK2

    @property
    def control(self) -> bytes:
        """32 bytes."""
        return h(self._ck, self._name + b" control")  # SK3


@dataclass(frozen=True, slots=True, repr=False)
class KeysReady:
    """Install `rx` and `tx` in `slot`; send with `tx` at once if `select_tx`, else when `take_switch` says so."""

    epoch: int
    slot: int
    rx: DirectionKeys
    tx: DirectionKeys
    select_tx: bool


@dataclass(slots=True, repr=False)
class _Pending:
    """The initiator's private keys between REKEY and REKEYED."""

    x: bytearray
    seed: bytearray
    message: Rekey

    def wipe(self) -> None:
        wipe(self.x)
        wipe(self.seed)


class Session:
    """`secret`: last ck of the handshake, 32 bytes. `initiator`: we sent the hellos (and will start rekeys)."""

    def __init__(self, provider: Provider, rng: Rng, secret: bytes, mode: Mode, initiator: bool) -> None:
        require(secret, SECRET_LEN, "session secret")
        self._setup(provider, rng, mode, initiator)
        self._ck = bytearray(secret)
        tx, rx = self._directions(secret)
        self._attach_channel(tx.hp, rx.hp)

    def _setup(self, provider: Provider, rng: Rng, mode: Mode, initiator: bool) -> None:
        self._provider = provider
        self._rng = rng
        self.mode = mode
        self.initiator = initiator
        self.epoch = 0
        self._next: bytearray | None = None
        self._next_digest = b""
        self._answer: Rekeyed | None = None
        self._previous_rx: bytes | None = None
        self._pending: _Pending | None = None
        self._switch: KeysReady | None = None

    def _attach_channel(self, tx_hp: bytes, rx_hp: bytes) -> None:
        self.tx_hp, self.rx_hp = tx_hp, rx_hp
        hps = (tx_hp, rx_hp) if self.mode is Mode.STREAM else ()
        self._channel = ControlChannel(self._provider, self._rng, self.mode, *hps)
        self._set_control_keys()

    def _directions(self, ck: bytes | bytearray) -> tuple[DirectionKeys, DirectionKeys]:
        """(tx, rx). LocalError after `wipe`."""
        require(ck, SECRET_LEN, "key of a session in use")
        i2r, r2i = DirectionKeys(bytes(ck), b"i2r"), DirectionKeys(bytes(ck), b"r2i")
        return (i2r, r2i) if self.initiator else (r2i, i2r)

    def _set_control_keys(self) -> None:
        """Send under the current epoch; take the current, a next one that waits, a previous one not yet retired."""
        tx, rx = self._directions(self._ck)
        self._channel.tx_key = tx.control
        self._channel.rx_keys = {self.epoch: rx.control}
        if self._next is not None:
            self._channel.rx_keys[self.epoch + 1] = self._directions(self._next)[1].control
        if self._previous_rx is not None:
            self._channel.rx_keys[self.epoch - 1] = self._previous_rx

    def _ready(self, epoch: int, ck: bytes | bytearray, select_tx: bool) -> KeysReady:
        tx, rx = self._directions(ck)
        return KeysReady(epoch, epoch % 2, rx, tx, select_tx)

    def keys(self) -> KeysReady:
        """Keys of the current epoch, to install after the handshake or for another lane."""
        return self._ready(self.epoch, self._ck, select_tx=True)

    # ---- control messages ------------------------------------------------------------------------------------------

    def seal(self, message: Message, now_ns: int) -> list[bytes]:
        """Bodies of 1216 bytes, in order; call again for a repeat. `now_ns`: unix nanoseconds."""
        return self._channel.seal(encode_message(message), now_ns)

    def open(self, body: bytes) -> Message | None:
        """Message, or None while parts are missing. RemoteError: LENGTH, FIELD, AUTH, REPLAY, PADDING, KIND.

        An authentic message that does not decode has used up its sequence all the same.
        """
        epoch, data = self._channel.open(body)
        if epoch > self.epoch:
            self.peer_switched()
        elif epoch == self.epoch and self._previous_rx is not None:
            self.retire()
        return None if data is None else decode_message(data)

    # ---- rekey -----------------------------------------------------------------------------------------------------

    def start_rekey(self) -> Rekey:
        """A fresh REKEY for the next epoch. Repeat the message; after some repeats without an answer call this again,
        because a responder that restarted has lost its answer. Initiator only."""
        require(self._ck, SECRET_LEN, "key of a session in use")
        if not self.initiator or self.epoch == EPOCH_MAX:
            raise LocalError("the initiator rekeys, up to the last epoch")
        self._drop_pending()
        self._pending = self._make_pending(self._rng(X25519_LEN), self._rng(KEM_SEED_LEN))  # RK1
        return self._pending.message

    def _make_pending(self, x: bytes, seed: bytes) -> _Pending:
        ek = self._provider.kem_key(seed).public
        message = Rekey(self.epoch + 1, self._provider.dh_key(x).public, ek)
        return _Pending(bytearray(x), bytearray(seed), message)

    def _drop_pending(self) -> None:
        if self._pending:
            self._pending.wipe()
        self._pending = None

    @property
    def pending_rekey(self) -> Rekey | None:
        """The REKEY that waits for its answer (also after a restart)."""
        return self._pending.message if self._pending else None

    def _next_ck(self, request: Rekey, y: bytes, ct: bytes, shared: bytes) -> bytes:
        require(self._ck, SECRET_LEN, "key of a session in use")
        chain = h(self._ck, b"chain")  # SK3
        epoch = request.epoch.to_bytes(4, "little")
        return h(chain, b"rekey", request.x + request.ek + y + ct + shared + epoch)  # RK2

    def on_rekey(self, message: Rekey) -> tuple[Rekeyed, KeysReady | None]:
        """Answer, and keys to install (None: a repeat, they are installed). Responder only.

        RemoteError: STATE (we are the initiator, or the answer to this very request is lost), EPOCH, KEY.
        """
        if self.initiator:
            raise RemoteError(Reason.STATE, "REKEY from the responder")
        if message.epoch != self.epoch + 1:
            raise RemoteError(Reason.EPOCH, "REKEY")
        digest = hashlib.sha256(message.x + message.ek).digest()
        if self._next is not None and digest == self._next_digest:
            if self._answer is None:
                raise RemoteError(Reason.STATE, "REKEY answered before our restart")
            return self._answer, None
        y = self._provider.dh_key(self._rng(X25519_LEN))  # RK2
        dh = y.exchange(message.x)
        ct, ss = self._provider.encaps(message.ek, static=False)
        ck = self._next_ck(message, y.public, ct, dh + ss)
        wipe(self._next)
        self._next, self._next_digest = bytearray(ck), digest
        self._answer = Rekeyed(message.epoch, y.public, ct, h(ck, b"rekeyed")[:CHECK_LEN])
        self._set_control_keys()
        return self._answer, self._ready(message.epoch, ck, select_tx=False)

    def on_rekeyed(self, message: Rekeyed) -> KeysReady | None:
        """Keys to install and send with; None for an answer that comes twice. Then send READY(epoch). Initiator only.

        RemoteError: STATE (we are the responder), AUTH (answers an earlier REKEY), KEY.
        """
        if not self.initiator:
            raise RemoteError(Reason.STATE, "REKEYED from the initiator")
        pending = self._pending
        if pending is None or message.epoch != self.epoch + 1:
            return None
        dh = self._provider.dh_key(bytes(pending.x)).exchange(message.y)  # RK3
        ss = self._provider.kem_key(bytes(pending.seed)).decaps(message.ct)
        ck = self._next_ck(pending.message, message.y, message.ct, dh + ss)
        if not hmac.compare_digest(h(ck, b"rekeyed")[:CHECK_LEN], message.check):
            raise RemoteError(Reason.AUTH, "REKEYED")
        self._previous_rx = self._directions(self._ck)[1].control
        self._drop_pending()
        self._enter(self.epoch + 1, bytearray(ck))
        return self.keys()

    def _enter(self, epoch: int, ck: bytearray) -> None:
        wipe(self._ck)
        self.epoch, self._ck = epoch, ck
        self._set_control_keys()

    def peer_switched(self) -> None:
        """A frame of the next epoch has verified: the data plane saw one, or `open` did. Without effect otherwise."""
        if self._next is None:
            return
        ck, self._next, self._answer, self._next_digest = self._next, None, None, b""
        self._enter(self.epoch + 1, ck)  # RK4
        self._switch = self.keys()

    def take_switch(self) -> KeysReady | None:
        """Once after the responder's switch: select the transmit slot of these keys (they are installed already)."""
        switch, self._switch = self._switch, None
        return switch

    def retire(self) -> None:
        """Drop the previous epoch's control key; at RETIRE_SECONDS after the switch, or earlier by `open`."""
        self._previous_rx = None  # RK5
        self._channel.rx_keys.pop(self.epoch - 1, None)

    def wipe(self) -> None:
        """Drop all secrets. Afterwards nothing opens (AUTH), and sealing, keys and rekey are LocalErrors."""
        wipe(self._ck)
        self._ck = bytearray()
        wipe(self._next)
        self._drop_pending()
        self._next = self._previous_rx = self._switch = None
        self._channel.tx_key, self._channel.rx_keys = b"", {}

    # ---- saved state -----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """STATE_LEN bytes, secret, for the pinned state map and nowhere else."""
        pending = self._pending
        require(self._ck, SECRET_LEN, "key of a session in use")
        present = (
            (_HAS_NEXT if self._next else 0)
            | (_HAS_PREVIOUS if self._previous_rx else 0)
            | (_HAS_PENDING if pending else 0)
        )
        return _STATE.pack(
            STATE_VERSION,
            self.mode,
            self.initiator,
            present,
            self.epoch,
            bytes(self._ck),
            self.tx_hp,
            self.rx_hp,
            self._channel.last_tx,
            self._channel.last_rx,
            bytes(self._next or b""),
            self._next_digest,
            self._previous_rx or b"",
            bytes(pending.x) if pending else b"",
            bytes(pending.seed) if pending else b"",
        )

    @classmethod
    def from_bytes(cls, provider: Provider, rng: Rng, data: bytes) -> Session:
        """Inverse of `to_bytes`. LocalError if the bytes are not of this version. The data plane has the keys."""
        if len(data) != STATE_LEN or data[0] != STATE_VERSION or data[1] not in set(Mode):
            raise LocalError("saved session of another version")
        (_, mode, initiator, present, epoch, ck, tx_hp, rx_hp, last_tx, last_rx, next_ck, digest, previous, x, seed) = (
            _STATE.unpack(data)
        )
        session = cls.__new__(cls)
        session._setup(provider, rng, Mode(mode), bool(initiator))
        session.epoch, session._ck = epoch, bytearray(ck)
        if present & _HAS_NEXT:
            session._next, session._next_digest = bytearray(next_ck), digest
        session._previous_rx = previous if present & _HAS_PREVIOUS else None
        session._attach_channel(tx_hp, rx_hp)
        session._channel.last_tx, session._channel.last_rx = last_tx + RESTORE_SKIP, last_rx
        if present & _HAS_PENDING:
            session._pending = session._make_pending(x, seed)
        return session
