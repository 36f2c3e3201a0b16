# SPDX-License-Identifier: Apache-2.0
"""The networks that this node's owner offers to be a gateway of, until the Master has heard of it.

    networks.json      all of them; an empty list is told once and then goes

The Master may have been restored from a backup since, so each process tells it anew.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Final

import httpx

from veilnet.keyd.node_files import NodeFiles
from veilnet.protocol.networks import IpNetwork

_FILE: Final = "networks.json"
_WAIT: Final = 10
_WAIT_MAX: Final = 3600


def advertise(files: NodeFiles, networks: Iterable[IpNetwork]) -> None:
    """Keep these, and no others, for the key daemon to tell."""
    texts = sorted(str(network) for network in networks)
    if texts or (files.state_dir / _FILE).exists():
        files.write(_FILE, json.dumps(texts).encode())


def advertised(files: NodeFiles) -> list[str] | None:
    """What is to be told; None: nothing. A file that can't be read is nothing."""
    try:
        stated = json.loads((files.state_dir / _FILE).read_bytes())
        return [str(ip_network(text)) for text in stated]
    except (OSError, ValueError, TypeError):
        return None


class Proposal:
    """What the Master is still to hear from this process."""

    def __init__(self, files: NodeFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._wanted = advertised(files)
        self._clock, self._not_before = clock, -math.inf

    def __bool__(self) -> bool:
        return self._wanted is not None and self._clock() >= self._not_before

    async def send(self, client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> httpx.Response | None:
        """Tell it; an answer that refuses it. The next contact does not repeat that: another `up` may."""
        answer = await client.put(f"{url}/api/v1/node/networks", json={"prefixes": self._wanted}, headers=headers)
        if answer.status_code >= 500 or answer.status_code == 429:
            self._not_before = self._clock() + _seconds(answer.headers.get("Retry-After"))
            return None  # later
        if answer.is_success and not self._wanted:
            (self._files.state_dir / _FILE).unlink(missing_ok=True)
        self._wanted = None
        return None if answer.is_success else answer


def _seconds(text: str | None) -> int:
    """Of a Retry-After; a Master that names no good one is asked again after the usual wait."""
    return min(int(text), _WAIT_MAX) if text is not None and re.fullmatch("[0-9]{1,9}", text) else _WAIT
