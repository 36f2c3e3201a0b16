# SPDX-License-Identifier: Apache-2.0
"""What is repeated until answered: the initiator's side of a handshake, and control requests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from veilnet.keyd.core import TRIES, Core
from veilnet.protocol.handshake import Initiator

_serial = count()


class Dial:
    """One handshake as initiator (section 6). `send` takes a handshake payload and seals it freshly each time.

    `confirmed` gets the secret before the confirm goes out, so that keys are in place when the answer comes; `failed`
    comes after the last repeat. The owner calls `close` once READY has come, or to give up.
    """

    def __init__(
        self,
        core: Core,
        initiator: Initiator,
        send: Callable[[bytes], None],
        confirmed: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> None:
        self._core = core
        self._initiator = initiator
        self._send = send
        self._confirmed = confirmed
        self._failed = failed
        self._key = ("dial", next(_serial))
        self._tries = 0
        self.confirming = False
        self.closed = False

    def start(self) -> None:
        self._repeat()

    def receive(self, payload: bytes) -> None:
        """A reply. RemoteError if it is not one that this handshake takes."""
        if self.closed:
            return
        self._initiator.receive(payload)
        if self._initiator.ready_to_confirm and not self.confirming:
            self._initiator.confirm()
            self.confirming = True
            self._confirmed(self._initiator.secret)
            self._tries = 0
            if not self.closed:
                self._repeat()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._core.timers.cancel(self._key)
            self._initiator.wipe()

    def _repeat(self) -> None:
        if self._tries >= TRIES:
            self.close()
            self._failed()
            return
        for payload in self._wanted():
            self._send(payload)
        self._core.timers.set(self._key, self._core.after(self._core.retry_delay(self._tries)), self._repeat)
        self._tries += 1

    def _wanted(self) -> list[bytes]:
        if self.confirming:
            return [self._initiator.confirm()]
        hello_a, hello_b = self._initiator.hellos()
        wants = ((hello_a, self._initiator.wants_reply_a), (hello_b, self._initiator.wants_reply_b))
        return [payload for payload, wanted in wants if wanted]


class Requests:
    """Control requests by id. An id is 32 random bits, so that an answer of an earlier life of ours matches nothing."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: dict[int, tuple[Callable[[object], None], int]] = {}

    def start(
        self,
        send: Callable[[int], None],
        answered: Callable[[object], None],
        failed: Callable[[], None],
        tries: int = TRIES,
    ) -> int:
        """Call `send(id)` now and again until `answer(id, ...)` or `cancel(id)`; after `tries` sends, `failed`."""
        request = self._core.randint(1, 0xFFFFFFFF)
        self._open[request] = answered, 0
        self._repeat(request, send, failed, tries)
        return request

    def answer(self, request: int, message: object) -> bool:
        """Hand `message` to whoever asked; False if nobody did (a late repeat, or a forgery)."""
        entry = self._open.pop(request, None)
        self._core.timers.cancel(("request", request))
        if entry is None:
            return False
        entry[0](message)
        return True

    def cancel(self, request: int) -> None:
        self._open.pop(request, None)
        self._core.timers.cancel(("request", request))

    def _repeat(self, request: int, send: Callable[[int], None], failed: Callable[[], None], tries: int) -> None:
        if request not in self._open:
            return
        answered, sent = self._open[request]
        if sent >= tries:
            self.cancel(request)
            failed()
            return
        self._open[request] = answered, sent + 1
        delay = self._core.retry_delay(sent)
        self._core.timers.set(
            ("request", request), self._core.after(delay), lambda: self._repeat(request, send, failed, tries)
        )
        send(request)
