# SPDX-License-Identifier: Apache-2.0
"""Published keys of the configured providers, kept for an hour; asked for again when a token names one not among them,
but not more than once a minute, so that made-up key ids don't become requests to the provider."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from joserfc.jwk import KeySet

from veilnet.oidc import fetch
from veilnet.oidc.errors import ProviderError
from veilnet.oidc.id_token import Identity, UnknownKey, verify
from veilnet.oidc.metadata import Metadata

LIFE: Final = 3600.0
AGAIN: Final = 60.0
FAILED: Final = 5.0
"""Seconds for which a provider that failed is not asked again."""

Read = Callable[[str], tuple[Metadata, KeySet]]


def read_provider(issuer: str) -> tuple[Metadata, KeySet]:
    metadata = fetch.get_metadata(issuer)
    return metadata, fetch.get_keys(metadata)


@dataclass(frozen=True)
class Published:
    metadata: Metadata
    keys: KeySet
    at: float


class ProviderKeys:
    def __init__(self, read: Read = read_provider, clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._known: dict[str, Published] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def metadata(self, issuer: str) -> Metadata:
        """Raises ProviderError."""
        return (await self._published(issuer, LIFE)).metadata

    async def verify(
        self, text: str, issuer: str, audience: str, now: int, *, nonce: str | None = None, groups_claim: str = "groups"
    ) -> Identity:
        """Raises TokenRefused, ProviderError."""

        def once(published: Published) -> Identity:
            return verify(
                text, published.keys, issuer=issuer, audience=audience, now=now, nonce=nonce, groups_claim=groups_claim
            )

        published = await self._published(issuer, LIFE)
        try:
            return once(published)
        except UnknownKey:
            return once(await self._published(issuer, AGAIN))

    async def _published(self, issuer: str, age: float) -> Published:
        async with self._locks[issuer]:
            known, now = self._known.get(issuer), self._clock()
            if known is not None and now - known.at < age:
                return known
            since, why = self._failed.get(issuer, (-FAILED, ""))
            if now - since < FAILED:
                raise ProviderError(why)
            try:
                metadata, keys = await asyncio.to_thread(self._read, issuer)
            except ProviderError as error:
                self._failed[issuer] = now, str(error)
                raise
            self._known[issuer] = Published(metadata, keys, now)
            return self._known[issuer]
