# SPDX-License-Identifier: Apache-2.0
"""What ends soon is told 30, 7 and 1 days before, once each, as an event: to streams and webhooks alike.

What the Master renews by itself is told of only when it should have been renewed and was not. A notice of N days is
given only for what lasts longer than that, so nothing is announced in the moment it is made; of several that are due
at once, after the Master was away, the last one is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.outbox.service import emit
from veilnet.api.settings import MasterSettings
from veilnet.api.times import DAY
from veilnet.api.upkeep.repository import Ending, UpkeepRepository

DAYS: Final = (1, 7, 30)
KINDS: Final = (
    "node.expiring",
    "node.certificate_expiring",
    "node.credential_expiring",
    "api_token.expiring",
    "client_secret.expiring",
    "enrolment_token.expiring",
    "master.certificate_expiring",
)
KEEP_SECONDS: Final = 30 * DAY
"""For which a notice is remembered after the end."""
BATCH: Final = 200


@dataclass(frozen=True)
class Notice:
    kind: str
    days: int
    ending: Ending

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.ending.subject, self.kind, self.ending.ends_at, self.days


async def announce(context: Context) -> None:
    """Emit what is due and was not announced yet, by no replica."""
    now = context.clock()
    async with read_session(context.engine) as session:
        due = await _due(session, context.settings, now)
    for place in range(0, len(due), BATCH):
        async with write_session(context.engine, context.hub) as session:
            await _tell(session, context.settings, due[place : place + BATCH], now)
            await UpkeepRepository(session, context.settings).forget_notices(now - KEEP_SECONDS)


async def _due(session: AsyncSession, settings: MasterSettings, now: int) -> list[Notice]:
    found, until = UpkeepRepository(session, settings), now + max(DAYS) * DAY
    tls = await asyncio.to_thread(_tls_certificate, settings)
    endings = (
        await found.nodes_to_expire(now, until),
        await found.certificates(now),
        await found.credentials(now),
        await found.api_tokens(now, until),
        await found.client_secrets(now, until),
        await found.enrolment_tokens(now, until),
        [tls] if tls is not None and now < tls.ends_at <= until else [],
    )
    found_kinds = zip(KINDS, endings, strict=True)
    return [notice for kind, several in found_kinds for notice in _notices(kind, several, now)]


def _notices(kind: str, endings: list[Ending], now: int) -> Iterator[Notice]:
    for ending in endings:
        passed = [days for days in DAYS if ending.begun_at < ending.ends_at - days * DAY <= now]
        if passed:
            yield Notice(kind, min(passed), ending)


async def _tell(session: AsyncSession, settings: MasterSettings, notices: list[Notice], now: int) -> None:
    fresh = await UpkeepRepository(session, settings).note([notice.key for notice in notices])
    for notice in notices:
        if notice.key in fresh:
            about = {"name": notice.ending.name, "days": notice.days, "ends_at": notice.ending.ends_at}
            emit(session, notice.kind, notice.ending.realm_id, notice.ending.subject, about, now)


def _tls_certificate(settings: MasterSettings) -> Ending | None:
    """The Master's own, if it has one on disk that can be read."""
    try:
        found = x509.load_pem_x509_certificate(settings.tls_certificate.read_bytes())
    except (OSError, ValueError):
        return None
    begun, ends = int(found.not_valid_before_utc.timestamp()), int(found.not_valid_after_utc.timestamp())
    return Ending("tls.pem", None, begun, ends, "the Master's TLS certificate")
