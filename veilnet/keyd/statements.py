# SPDX-License-Identifier: Apache-2.0
"""What a node states to the Master beside its descriptor: told once by each process, later if the Master can't now."""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import cryptography
import httpx
from cryptography.hazmat.backends.openssl import backend

_WAIT: Final = 10
_WAIT_MAX: Final = 3600
_TEXT_MAX: Final = 128
_UNKNOWN_THERE: Final = 404


class Statement:
    """`body` is what the Master is still to hear from this process; None: nothing."""

    def __init__(self, path: str, body: dict[str, Any] | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._body = path, body
        self._clock, self._not_before = clock, -math.inf

    def __bool__(self) -> bool:
        return self._body is not None and self._clock() >= self._not_before

    async def send(self, client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> httpx.Response | None:
        """Tell it; an answer that refuses it. The next contact does not repeat that: another process may."""
        answer = await client.put(f"{url}/api/v1/node/{self._path}", json=self._body, headers=headers)
        if answer.status_code >= 500 or answer.status_code == 429:
            self._not_before = self._clock() + _seconds(answer.headers.get("Retry-After"))
            return None  # later
        if answer.is_success:
            self.heard()
        self._body = None
        return None if answer.is_success else answer

    def heard(self) -> None:
        """The Master has taken it."""


class Software(Statement):
    """Program, cryptographic library and kernel: so that whoever runs the fleet sees what is out of date."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("software", software(), clock)

    async def send(self, client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> httpx.Response | None:
        refused = await super().send(client, url, headers)
        return None if refused is not None and refused.status_code == _UNKNOWN_THERE else refused  # an older Master


def software() -> dict[str, str]:
    provider = f"{backend.openssl_version_text()}, cryptography {cryptography.__version__}"
    return {"version": version("veilnet"), "provider": _plain(provider), "kernel": _plain(platform.release())}


def _plain(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text)[:_TEXT_MAX]


def _seconds(text: str | None) -> int:
    """Of a Retry-After; a Master that names no good one is asked again after the usual wait."""
    return min(int(text), _WAIT_MAX) if text is not None and re.fullmatch("[0-9]{1,9}", text) else _WAIT
