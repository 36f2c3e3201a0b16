# SPDX-License-Identifier: Apache-2.0
"""What an administrator is given: `veila1.<base64url(json)>`, the Master's URL, its TLS fingerprint and the bearer."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from veilnet.enrolment_token import TokenTextError, checked_url

PREFIX: Final = "veila1."


class AdminTokenText(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=512)]
    token: Annotated[str, Field(max_length=128, repr=False)]
    tls: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None

    _url = field_validator("url")(checked_url)

    def encode(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")


def read_admin_token(text: str) -> AdminTokenText:
    """Raises TokenTextError; its text never repeats the token."""
    text = text.strip()
    body = text.removeprefix(PREFIX)
    try:
        if body == text:
            raise ValueError
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return AdminTokenText.model_validate(json.loads(data))
    except (binascii.Error, ValidationError, ValueError):
        raise TokenTextError(f"not an administrator's token: it starts with {PREFIX!r} and is one line") from None
