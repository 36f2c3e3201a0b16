# SPDX-License-Identifier: Apache-2.0
"""The one thing a new node is given: `veil1.<base64url(json)>`.

It names the Master and pins everything the node must not believe an attacker about: the realm CA's key and the Master's
TLS certificate, both by SHA-256. Whoever holds it can enrol, so it never stands in argv, a URL or a log.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

PREFIX: Final = "veil1."
LENGTH_MAX: Final = 4096
_Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TokenTextError(ValueError):
    """Not an enrolment token."""


def checked_url(url: str) -> str:
    """An http or https origin without path, user or query."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("the Master's URL must be https://host or https://host:port")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("the Master's URL must have no path and no query")
    return url.rstrip("/")


class EnrolmentTokenText(BaseModel):
    """`realm` is the realm's id on the wire; `tls` null means that the system's certificate authorities decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=512)]
    id: Annotated[str, Field(max_length=64)]
    secret: Annotated[str, Field(max_length=64, repr=False)]
    realm: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    ca: _Fingerprint
    tls: _Fingerprint | None

    _url = field_validator("url")(checked_url)

    def encode(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")


def read_token(text: str) -> EnrolmentTokenText:
    """Raises TokenTextError; its text never repeats the token."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > LENGTH_MAX:
        raise TokenTextError(f"an enrolment token starts with {PREFIX!r} and is one line: was it cut while copying?")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        token = EnrolmentTokenText.model_validate(json.loads(data))
    except (binascii.Error, ValidationError, ValueError):
        raise TokenTextError("the enrolment token is damaged: was it cut while copying?") from None
    if not token.ca.startswith(token.realm):
        raise TokenTextError("the enrolment token contradicts itself: its realm is not its CA's")
    return token
