# SPDX-License-Identifier: Apache-2.0
"""TLS to a Master whose certificate is known by its SHA-256.

The certificate that the server shows is compared with the fingerprint, then made the only trust anchor of a context:
every connection under that context has proven the certificate's key before anything secret is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

FETCH_TIMEOUT: Final = 10.0


class PinError(Exception):
    """The server's certificate is not the pinned one, or there is none."""


def fetch_certificate(url: str, fingerprint: str) -> str:
    """PEM of the certificate that the server at `url` shows, if it is the pinned one (64 hex digits). Blocks."""
    host, port = host_port(url)
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # nothing is sent over this connection; the pin decides below
    with (
        socket.create_connection((host, port), FETCH_TIMEOUT) as plain,
        unverified.wrap_socket(plain, server_hostname=host) as connection,
    ):
        shown = connection.getpeercert(binary_form=True) or b""
    if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), fingerprint):
        raise PinError(
            f"{host}:{port} shows another TLS certificate than the token pins: it is not the Master that made the"
            " token, or that Master was set up again (then ask for a new token)"
        )
    return ssl.DER_cert_to_PEM_cert(shown)


def pinned_context(pem: str) -> ssl.SSLContext:
    """Trusts this one certificate, whatever name it carries."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(cadata=pem)
    return context


def system_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
