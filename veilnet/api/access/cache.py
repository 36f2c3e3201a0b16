# SPDX-License-Identifier: Apache-2.0
"""Administrator tokens that were verified lately, so that the slow hash is not paid at every request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Final

_ENTRIES_MAX: Final = 256


class VerifiedTokens:
    """Remembers (keyed digest of the token text → stored hash): another stored hash makes the entry worthless."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def knows(self, text: str, stored: str) -> bool:
        return self._known.get(self._digest(text)) == stored

    def remember(self, text: str, stored: str) -> None:
        self._known[self._digest(text)] = stored
        while len(self._known) > _ENTRIES_MAX:
            self._known.popitem(last=False)

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), hashlib.sha256)
