# SPDX-License-Identifier: Apache-2.0
"""Where a webhook may lead: https, and not into the Master's own networks unless its settings allow it.

The address is checked when the connection is made, and the connection is made to the address that was checked: a name
that leads elsewhere the second time leads nowhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


class TargetRefused(Exception):  # noqa: N818 - what happened
    pass


@dataclass(frozen=True)
class Address:
    """What to connect to, and as whom."""

    url: str
    """With the IP address in place of the name."""
    host: str
    """For the Host header and the certificate."""


def checked_target(url: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError("an http or https URL with a host")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("a URL without user name, password and fragment: they would show in lists")
    parts.port  # noqa: B018 - raises for a port that is none
    return url


async def resolve(url: str, *, private: bool) -> Address:
    """Raises TargetRefused. `private` allows addresses that are not global, and http without TLS."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not private:
        raise TargetRefused("needs https")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetRefused(f"{host} can't be resolved") from error
    address = ipaddress.ip_address(found[0][4][0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not private and (not mapped.is_global or mapped.is_multicast):
        raise TargetRefused(f"{host} is {mapped}, which is not a public address")
    literal = f"[{address}]" if address.version == 6 else str(address)
    rest = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return Address(f"{parts.scheme}://{literal}:{port}{rest}", host if port in {80, 443} else f"{host}:{port}")
