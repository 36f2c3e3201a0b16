# SPDX-License-Identifier: Apache-2.0
"""Sockets to the Master that bear a mark, so that no accepted network takes them (docs/networks.md): a node that could
reach its Master only through a network would never hear that the network was withdrawn."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import httpx

from veilnet.tls_pin import pinned_context, system_context

HTTP_TIMEOUT: Final = 15.0
"""Seconds."""
_PORTS = {"http": 80, "https": 443}


async def connected(url: str, mark: int, timeout: float) -> socket.socket | None:
    """A TCP socket to the host of an http or https URL, its addresses tried in turn; None, "as usual", without a mark.
    Raises OSError, TimeoutError."""
    if not mark:
        return None
    async with asyncio.timeout(timeout):
        return await _connected(url, mark)


async def _connected(url: str, mark: int) -> socket.socket:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port or _PORTS[parts.scheme], type=socket.SOCK_STREAM)
    errors = []
    for family, kind, protocol, _, address in found:
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            made.setblocking(False)
            await loop.sock_connect(made, address)
        except OSError as error:
            made.close()
            errors.append(error)
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise errors[0] if errors else OSError(f"{parts.hostname} has no address")


def tls_context(url: str, pem: str | None) -> ssl.SSLContext:
    """For an http URL (loopback only) it is never used."""
    return pinned_context(pem) if pem is not None else system_context()


def client(tls: ssl.SSLContext, mark: int, timeout: float) -> httpx.AsyncClient:
    """For single requests."""
    options = [(socket.SOL_SOCKET, socket.SO_MARK, mark)] if mark else None
    transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, socket_options=options)
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
