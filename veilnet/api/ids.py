# SPDX-License-Identifier: Apache-2.0
"""Prefixed ids that sort by time of creation: UUIDv7 (RFC 9562 section 5.7) in Crockford's base 32."""

from __future__ import annotations

import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS: Final = 26  # 128 bits, five a digit


def new_id(prefix: str) -> str:
    """For example `nod_01jd…`, 30 characters."""
    value = (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return f"{prefix}_" + "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_DIGITS)))
