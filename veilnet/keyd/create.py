# SPDX-License-Identifier: Apache-2.0
"""CREATE on a link until it is answered, on a new link if the old one does not answer (docs/protocol.md, CI1, CI3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from veilnet.keyd.core import Core
from veilnet.keyd.dial import Requests
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.protocol.messages import Create

TRIES: Final = 4
"""3.75 s: whoever waits has another way to try."""
DOUBT: Final = 0.7
"""Seconds without an answer, so two requests, until a new link is tried: a neighbour that came back from a power
failure doesn't know the old one, and silence on it may take half a minute to tell."""


class Creator:
    def __init__(self, core: Core, requests: Requests, links: Links) -> None:
        self._core, self._requests, self._links = core, requests, links
        self._open: dict[int, int] = {}

    def start(
        self,
        link: Link,
        label: int,
        move: Callable[[Link], None],
        answered: Callable[[object], None],
        failed: Callable[[], None],
    ) -> None:
        """Ask for a circuit on `link` whose way back is `label`. `move` tells that it is asked for on another link, to
        which `label` belongs from then on; then comes one of `answered` and `failed`, unless `cancel` came first."""
        self._ask(link, label, answered, failed)

        def renewed(new: Link | None) -> None:
            if new is not None and self._open.get(label) == request:
                self.cancel(label)
                move(new)
                self._ask(new, label, answered, failed)

        request = self._open[label]
        self._core.timers.set(("create", label), self._core.after(DOUBT), lambda: self._links.renew(link.peer, renewed))

    def cancel(self, label: int) -> None:
        self._core.timers.cancel(("create", label))
        self._requests.cancel(self._open.pop(label, 0))

    def _ask(self, link: Link, label: int, answered: Callable[[object], None], failed: Callable[[], None]) -> None:
        def end(tell: Callable[[], None]) -> None:
            self.cancel(label)
            tell()

        self._open[label] = self._requests.start(
            lambda request: self._links.send(link, Create(request, label)),
            lambda answer: end(lambda: answered(answer)),
            lambda: end(failed),
            TRIES,
        )
