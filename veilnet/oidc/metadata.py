# SPDX-License-Identifier: Apache-2.0
"""A provider's metadata (OpenID Connect Discovery 1.0 sections 3 and 4, RFC 8628 section 4)."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from veilnet.oidc.errors import ProviderError

WELL_KNOWN: Final = "/.well-known/openid-configuration"
URL_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Metadata:
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    device_authorization_endpoint: str | None


def checked_url(url: Any, what: str) -> str:
    """`url` if it is https, or http to this host. Raises ProviderError."""
    if not isinstance(url, str) or len(url) > URL_MAX or not url.isascii():
        raise ProviderError(f"{what}: not a URL of at most {URL_MAX} ASCII characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ProviderError(f"{what}: not a URL: {error}") from error
    if not host or parts.username or parts.password or parts.fragment:
        raise ProviderError(f"{what}: {url!r} must have a host, and neither user name nor fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _loopback(host)):
        raise ProviderError(f"{what}: {url!r} must be https (plain http is for this host only)")
    return url


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_issuer(issuer: str) -> str:
    """An issuer identifier: a URL without query (Discovery section 3). Raises ProviderError."""
    if urlsplit(checked_url(issuer, "issuer")).query:
        raise ProviderError("issuer: has no query part")
    return issuer


def well_known(issuer: str) -> str:
    return checked_issuer(issuer).rstrip("/") + WELL_KNOWN


def parse_metadata(issuer: str, body: bytes) -> Metadata:
    """Raises ProviderError; also when the document names another issuer than the one asked (section 4.3)."""
    document = parse_object(body, "provider metadata")
    if document.get("issuer") != issuer:
        raise ProviderError(f"{well_known(issuer)} is of issuer {document.get('issuer')!r}, configured is {issuer!r}")
    device = document.get("device_authorization_endpoint")
    return Metadata(
        issuer=issuer,
        authorization_endpoint=checked_url(document.get("authorization_endpoint"), "authorization_endpoint"),
        token_endpoint=checked_url(document.get("token_endpoint"), "token_endpoint"),
        jwks_uri=checked_url(document.get("jwks_uri"), "jwks_uri"),
        device_authorization_endpoint=None if device is None else checked_url(device, "device_authorization_endpoint"),
    )


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"{what}: not JSON") from error
    if not isinstance(document, dict):
        raise ProviderError(f"{what}: not a JSON object")
    return document
