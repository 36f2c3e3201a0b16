# SPDX-License-Identifier: Apache-2.0
"""How long what a realm gives out lasts: by its own settings, else by the Master's."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.db import read_session
from veilnet.api.realms.models import Realm
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.settings import MasterSettings

KNOWN_FOR: Final = 10.0
"""Seconds for which a process may go by what it has read; less than a third of the shortest ephemeral life."""


class Lifetimes(NamedTuple):
    """Seconds: of a certificate, of a credential after its end, and for which an ephemeral node may be away."""

    certificate: int
    grace: int
    ephemeral: int


def lifetimes(realm: Realm | None, settings: MasterSettings) -> Lifetimes:
    """`realm` None: the Master's own."""

    def of(name: str) -> int:
        own: int | None = getattr(realm, name, None)
        master: int = getattr(settings, name)
        return master if own is None else own

    return Lifetimes(of("certificate_seconds"), of("grace_seconds"), of("ephemeral_seconds"))


class KnownLifetimes:
    """For what every request and channel of a node asks: read once in a while, not each time."""

    def __init__(self, engine: AsyncEngine, settings: MasterSettings) -> None:
        self._engine, self._settings = engine, settings
        self._known: dict[str, tuple[float, Lifetimes]] = {}

    async def of(self, realm_id: str) -> Lifetimes:
        read_at, known = self._known.get(realm_id, (-KNOWN_FOR, None))
        if known is None or time.monotonic() - read_at >= KNOWN_FOR:
            async with read_session(self._engine) as session:
                known = lifetimes(await RealmRepository(session).by_id(realm_id), self._settings)
            self._known[realm_id] = time.monotonic(), known
        return known

    def forget(self, realm_id: str) -> None:
        self._known.pop(realm_id, None)
