# SPDX-License-Identifier: Apache-2.0
"""Device authorization grant (RFC 8628): a person confirms on another screen, the command line asks until then."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from veilnet.oidc.errors import LoginRefused, ProviderError
from veilnet.oidc.metadata import checked_url, parse_object
from veilnet.oidc.pkce import SCOPE, Client, refusal

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL: Final = 5.0
_SLOW_DOWN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What to show the person, and when to ask again. Times are seconds on the caller's monotonic clock."""

    client: Client
    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval: float
    ends: float

    def token_request(self) -> dict[str, str]:
        return self.client.form(grant_type=GRANT, device_code=self.device_code)


def authorization_request(client: Client) -> dict[str, str]:
    return client.form(scope=SCOPE)


def begin(client: Client, body: bytes, now: float) -> Waiting:
    """From the answer of the device authorization endpoint (section 3.2). Raises ProviderError."""
    answer = parse_object(body, "device authorization")
    complete = answer.get("verification_uri_complete")
    return Waiting(
        client=client,
        device_code=_text(answer, "device_code"),
        user_code=_text(answer, "user_code"),
        verification_uri=checked_url(answer.get("verification_uri"), "verification_uri"),
        verification_uri_complete=None if complete is None else checked_url(complete, "verification_uri_complete"),
        interval=max(1.0, _number(answer.get("interval", _INTERVAL))),
        ends=now + _number(answer.get("expires_in")),
    )


def poll(waiting: Waiting, status: int, body: bytes, now: float) -> Waiting | str:
    """The ID token, or how to go on. Raises LoginRefused when it is over (section 3.5)."""
    if status == 200:
        return id_token(body)
    try:
        error = json.loads(body).get("error", "")
    except (ValueError, AttributeError) as failure:
        raise ProviderError(f"token endpoint: status {status} without an OAuth error") from failure
    if error == "slow_down":
        waiting = replace(waiting, interval=waiting.interval + _SLOW_DOWN)
    elif error != "authorization_pending":
        raise LoginRefused(refusal(str(error), ""))
    if now + waiting.interval >= waiting.ends:
        raise LoginRefused("nobody confirmed the code in time: start again")
    return waiting


def id_token(body: bytes) -> str:
    """From a token endpoint's answer. Raises ProviderError."""
    return _text(parse_object(body, "token endpoint"), "id_token")


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ProviderError(f"{name}: missing in the provider's answer")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86400:
        raise ProviderError("interval and expires_in must be seconds, at most a day")
    return float(value)
