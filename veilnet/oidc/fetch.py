# SPDX-License-Identifier: Apache-2.0
"""HTTP to a provider: no redirects, bounded answers, bounded time. Blocks; the Master calls it in a thread."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

import httpx
from joserfc.jwk import KeySet

from veilnet.oidc.errors import ProviderError
from veilnet.oidc.id_token import parse_keys
from veilnet.oidc.metadata import Metadata, checked_url, parse_metadata, well_known

ANSWER_MAX: Final = 256 * 1024
TIMEOUT: Final = 10.0


def get_metadata(issuer: str) -> Metadata:
    return parse_metadata(issuer, _get(well_known(issuer)))


def get_keys(metadata: Metadata) -> KeySet:
    return parse_keys(_get(metadata.jwks_uri))


def post_form(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """(status, body); the body of a refusal carries the OAuth error. Raises ProviderError."""
    return _request("POST", url, form)


def _get(url: str) -> bytes:
    status, body = _request("GET", url, None)
    if status != 200:
        raise ProviderError(f"{url}: HTTP status {status}")
    return body


def _request(method: str, url: str, form: Mapping[str, str] | None) -> tuple[int, bytes]:
    checked_url(url, "provider's URL")
    try:
        with (
            httpx.Client(verify=ssl.create_default_context(), timeout=TIMEOUT, trust_env=False) as client,
            client.stream(method, url, data=form, headers={"Accept": "application/json"}) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > ANSWER_MAX:
                    raise ProviderError(f"{url}: answer is larger than {ANSWER_MAX} bytes")
            return response.status_code, bytes(body)
    except httpx.HTTPError as error:
        raise ProviderError(f"{url}: {error or type(error).__name__}") from error
