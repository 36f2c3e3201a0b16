# SPDX-License-Identifier: Apache-2.0
"""A webhook's secrets: sealed in its row, two of them while one is being rotated."""

from __future__ import annotations

from typing import Final

from veilnet.api.sealing import Sealer
from veilnet.api.times import DAY
from veilnet.api.webhooks.models import Webhook

OVERLAP_SECONDS: Final = DAY
_PURPOSE: Final = b"webhook"


def sealed(sealer: Sealer, secret: bytes) -> bytes:
    return sealer.seal(secret, _PURPOSE)


def rotate(sealer: Sealer, row: Webhook, secret: bytes, now: int) -> None:
    """The old secret signs, too, for a day: receivers take the new one meanwhile."""
    row.old_secret, row.rotation_ends_at = row.secret, now + OVERLAP_SECONDS
    row.secret = sealed(sealer, secret)


def keys_of(sealer: Sealer, row: Webhook, now: int) -> list[bytes]:
    """Secrets to sign with, the new one first."""
    keys = [sealer.open(row.secret, _PURPOSE)]
    if row.old_secret is not None and row.rotation_ends_at is not None and now < row.rotation_ends_at:
        keys.append(sealer.open(row.old_secret, _PURPOSE))
    return keys
