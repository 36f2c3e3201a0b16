# SPDX-License-Identifier: Apache-2.0
"""How sealed frames leave: XDP redirect where a probe has shown that it delivers, TC everywhere else.

A redirected frame can vanish without a trace: a veth drops it when its peer has no NAPI, and a driver may accept it and
do nothing. So each NIC is tried end to end: a ping of a link's session is sent the way data would be, and only its
answer counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from veilnet.keyd.core import Core, EmitProbe
from veilnet.keyd.dial import Requests
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.keyd.state import Link as State
from veilnet.protocol.messages import Ping

PROBE_TRIES: Final = 4
PROBE_AGAIN: Final = 10.0
"""Seconds until a NIC that has passed is tried again: the other end may change."""
PROBE_RETRY: Final = 60.0
"""Seconds until a NIC that has failed is tried again."""


@dataclass(slots=True)
class _Nic:
    proven: bool = False
    asking: bool = False
    next: float = 0.0


class EmitProber:
    """Keeps the data plane's emit way right for all NICs that links use. Conflux only: a Guardian always redirects."""

    def __init__(self, core: Core, links: Links, requests: Requests) -> None:
        self._core, self._links, self._requests = core, links, requests
        self._nics: dict[int, _Nic] = {}

    def tick(self) -> None:
        if not self._core.serves("conflux"):
            return
        used = {link.ifindex: link for link in self._links.by_index.values() if link.state is State.UP}
        self._nics = {ifindex: self._nics.get(ifindex, _Nic()) for ifindex in used}
        for ifindex, nic in self._nics.items():
            if not nic.asking and self._core.now >= nic.next:
                self._probe(nic, used[ifindex])
        self._select()

    @property
    def redirects(self) -> bool:
        return bool(self._nics) and all(nic.proven for nic in self._nics.values())

    def _select(self) -> None:
        self._core.plane.set_redirect(self.redirects)

    def _probe(self, nic: _Nic, link: Link) -> None:
        def answered(_: object) -> None:
            self._settle(nic, link, proven=True)

        nic.asking = True
        self._requests.start(
            lambda request: self._send(link, request),
            answered,
            lambda: self._settle(nic, link, proven=False),
            tries=PROBE_TRIES,
        )

    def _settle(self, nic: _Nic, link: Link, *, proven: bool) -> None:
        if not proven and link.state is not State.UP:
            nic.asking, nic.next = False, self._core.now  # the link died, which says nothing about the NIC
            return
        if proven != nic.proven:
            self._core.event("emit", ifindex=link.ifindex, way="redirect" if proven else "tc")
        nic.asking, nic.proven = False, proven
        nic.next = self._core.after(self._core.jitter(PROBE_AGAIN if proven else PROBE_RETRY))
        self._select()

    def _send(self, link: Link, request: int) -> None:
        if link.session is None or link.state is not State.UP:
            return
        bodies = link.session.seal(Ping(request), self._core.unix_ns)
        self._links.save(link)
        self._core.actions.extend(EmitProbe(link.index, body) for body in bodies)
