# SPDX-License-Identifier: Apache-2.0
"""Rekey of a link or a stream, make before break (docs/protocol.md section 8).

Keys go into the data plane before the session is saved, the transmit slot is selected after it: a restart between any
two steps finds either the old epoch or a new one whose keys are in place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol

from veilnet.contract import COUNTER_LIMIT, REKEY_FRAMES
from veilnet.keyd.core import Core
from veilnet.keyd.dial import Requests
from veilnet.protocol.errors import Reason, RemoteError
from veilnet.protocol.messages import Message, Ping, Ready, Rekey, Rekeyed
from veilnet.protocol.session import KeysReady, Session

FRAMES_LIMIT: Final = REKEY_FRAMES * 3 // 4
FRAMES_MAX: Final = COUNTER_LIMIT - REKEY_FRAMES
"""Only the initiator rekeys. If it never does, the session ends here, well before its counters do."""
ASKS_PER_KEY: Final = 4
"""Repeats of one REKEY before a fresh one: a responder that restarted has lost its answer."""


class Slots(Protocol):
    """Key slots of one link or stream in the data plane."""

    def install(self, keys: KeysReady) -> None:
        """Receive key, then transmit key; the transmit slot is not selected."""

    def select(self, slot: int) -> None:
        """Send with this slot from now on, if that is not so already."""

    def clear_rx(self, slot: int) -> None: ...
    def heard_on(self, slot: int) -> bool:
        """A frame has verified under the key that `install` put there."""

    def sent(self) -> int:
        """Frames sent under the selected key."""


class Rekeying:
    """`send` seals a message into the session's channel; `save` writes the session's record."""

    def __init__(
        self,
        core: Core,
        requests: Requests,
        name: Hashable,
        session: Session,
        *,
        peer: bytes,
        slots: Slots,
        send: Callable[[Message], None],
        save: Callable[[], None],
    ) -> None:
        self._core, self._requests, self._session, self._slots = core, requests, session, slots
        self._peer = peer
        self._send, self._save = send, save
        self._due, self._ask, self._old = ("rekey", name), ("rekey ask", name), ("rekey old", name)
        self._asks = 0
        self._settling = 0
        self._interval = 0.0
        """Setting that the due time comes from."""
        self.waiting: int | None = None
        """Responder: epoch whose keys are installed and that the initiator has not switched to yet."""
        self._arm()

    @property
    def busy(self) -> bool:
        return bool(self._asks or self._settling)

    @property
    def exhausted(self) -> bool:
        return self._slots.sent() >= FRAMES_MAX

    def close(self) -> None:
        self._core.timers.cancel(self._due, self._ask, self._old)
        self._requests.cancel(self._settling)

    def fields(self) -> dict[str, Any]:
        return {"w": self.waiting} if self.waiting is not None else {}

    def restore(self, fields: dict[str, Any]) -> None:
        """After a restart: the data plane may be one step behind the record."""
        self.waiting = fields.get("w")
        self._slots.select(self._session.epoch % 2)
        if self._session.epoch and self.waiting is None:
            self._retire_later()
        if self._session.pending_rekey is not None:
            self._repeat()
        elif self._session.initiator and self._session.epoch:
            self._settle()

    def poll(self) -> None:
        if self.waiting is not None and self._slots.heard_on(self.waiting % 2):
            self._session.peer_switched()  # RK4
            self.after_open()
        if not self._session.initiator or self.busy:
            return
        if self._slots.sent() >= FRAMES_LIMIT:
            self.start()
        elif self._interval != self._core.settings.rekey_interval:
            self._arm()

    def start(self) -> None:
        if self.busy:
            # the responder has not been seen under the new keys yet; its frames still need the old slot
            self._core.timers.set(self._due, self._core.after(1.0), self.start)
            return
        self._session.start_rekey()  # RK1
        self._save()
        self._repeat()

    def _repeat(self) -> None:
        if self._asks and self._asks % ASKS_PER_KEY == 0:
            self._session.start_rekey()
            self._save()
        pending = self._session.pending_rekey
        if pending is None:
            return
        delay = self._core.retry_delay(self._asks % ASKS_PER_KEY)
        self._asks += 1
        self._core.timers.set(self._ask, self._core.after(delay), self._repeat)
        self._send(pending)

    def on_rekey(self, message: Rekey) -> None:
        if not self._core.rekeys.take(self._peer, self._core.now):
            raise RemoteError(Reason.BUDGET, "rekeys of one peer")
        answer, keys = self._session.on_rekey(message)  # RK2
        if keys is not None:
            self._core.timers.cancel(self._old)  # RK5: its slot is needed now
            self._slots.install(keys)
            self.waiting = keys.epoch
            self._save()
        self._send(answer)

    def on_rekeyed(self, message: Rekeyed) -> None:
        keys = self._session.on_rekeyed(message)  # RK3
        if keys is None:
            return
        self._core.timers.cancel(self._ask, self._old)
        self._asks = 0
        self._slots.install(keys)
        self._save()
        self._slots.select(keys.slot)
        self._send(Ready(keys.epoch))
        self._core.count("rekeyed")
        self._settle()
        self._retire_later()
        self._arm()

    def after_open(self) -> None:
        """To be called after each message that the session opened."""
        keys = self._session.take_switch()
        if keys is not None:
            self.waiting = None
            self._save()
            self._slots.select(keys.slot)  # RK4
            self._core.count("rekeyed")
            self._retire_later()

    def _settle(self) -> None:
        """Ask until an answer shows that the responder has switched, too."""

        def done(_: object = None) -> None:
            self._settling = 0

        self._settling = self._requests.start(lambda request: self._send(Ping(request)), done, done)

    def _retire_later(self) -> None:
        old = (self._session.epoch + 1) % 2

        def retire() -> None:
            self._slots.clear_rx(old)
            self._session.retire()
            self._save()

        self._core.timers.set(self._old, self._core.after(self._core.settings.rx_grace), retire)  # RK5

    def _arm(self) -> None:
        if self._session.initiator:
            self._interval = self._core.settings.rekey_interval
            self._core.timers.set(self._due, self._core.after(self._core.jitter(self._interval)), self.start)
