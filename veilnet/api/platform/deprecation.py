# SPDX-License-Identifier: Apache-2.0
"""Routes that will go: every answer says since when they are deprecated, when they end, and what takes their place
(RFC 9745, RFC 8594, RFC 5829)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send


@dataclass(frozen=True)
class Deprecation:
    """`sunset` is the first day on which the route may be gone; `successor` the path that takes its place."""

    since: date
    sunset: date
    successor: str

    def headers(self, path_params: Mapping[str, Any]) -> dict[str, str]:
        successor = self.successor.format(**{name: quote(str(value), safe="") for name, value in path_params.items()})
        return {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Sunset": format_datetime(_midnight(self.sunset), usegmt=True),
            "Link": f'<{successor}>; rel="successor-version"',
        }


def announcing(found: Deprecation, path_params: Mapping[str, Any], send: Send) -> Send:
    """`send` that adds the headers."""

    async def announced(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(found.headers(path_params))
        await send(message)

    return announced


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
