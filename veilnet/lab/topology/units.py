# SPDX-License-Identifier: Apache-2.0
"""Quantities as topology files and fault commands write them: `20ms`, `1%`, `100mbit`, `50p`. Never without a unit.

The patterns are those of the published schema, too.
"""

from __future__ import annotations

import re
from typing import Final

_NUMBER = r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?"
TIME: Final = rf"^{_NUMBER}(?:us|ms|s)$"
SHARE: Final = r"^(?:100(?:\.0{1,6})?|[1-9]?[0-9](?:\.[0-9]{1,6})?)%$"
RATE: Final = r"^[1-9][0-9]{0,8}(?:\.[0-9]{1,3})?(?:kbit|mbit|gbit)$"
QUEUE: Final = rf"^(?:{_NUMBER}(?:us|ms|s)|[1-9][0-9]{{0,5}}p)$"

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


class UnitError(ValueError):
    """Not a quantity of this kind; the message says what one looks like."""


def seconds(text: str) -> float:
    """`150us`, `20ms`, `1.5s`. Raises UnitError."""
    value, unit = _split(text, TIME, "a time with its unit, such as 20ms, 1.5s or 150us")
    return round(value * _SECONDS[unit], 9)


def share(text: str) -> float:
    """`1%`, `0.05%`, at most `100%`, as a probability. Raises UnitError."""
    value, _ = _split(text, SHARE, "a percentage from 0% to 100%, such as 1% or 0.05%")
    return value / 100


def bits(text: str) -> int:
    """`64kbit`, `100mbit`, `1.5gbit` a second. Raises UnitError."""
    value, unit = _split(text, RATE, "a rate with its unit, such as 64kbit, 100mbit or 1.5gbit")
    return round(value * _BITS[unit])


def queue(text: str) -> tuple[float | None, int | None]:
    """(seconds, frames), one of them None: `50ms` or `100p`. Raises UnitError."""
    _split(text, QUEUE, "a time or a number of packets, such as 50ms or 100p")
    return (None, int(text[:-1])) if text.endswith("p") else (seconds(text), None)


def _split(text: str, pattern: str, what: str) -> tuple[float, str]:
    if not re.match(pattern.replace("$", r"\Z"), text):
        raise UnitError(what)
    number = text.rstrip("%abcdefghijklmnopqrstuvwxyz")
    return float(number), text[len(number) :]
