# SPDX-License-Identifier: Apache-2.0
"""Authorization code with PKCE on a loopback address (RFC 6749 section 4.1, RFC 7636, RFC 8252 section 7.3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from veilnet.oidc.errors import LoginRefused
from veilnet.oidc.metadata import Metadata

SCOPE: Final = "openid email profile"
CALLBACK: Final = "/callback"
_ENTROPY: Final = 32


@dataclass(frozen=True, slots=True)
class Client:
    """What the provider knows this command line as. Some providers give installed applications a "secret", too; it is
    in everybody's hands and protects nothing: PKCE does."""

    id: str
    secret: str | None = None

    def form(self, **fields: str) -> dict[str, str]:
        """Fields of a request to the provider, with the client's own (RFC 6749 section 2.3.1)."""
        return {**fields, "client_id": self.id, **({"client_secret": self.secret} if self.secret else {})}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login. `verifier`, `state` and `nonce` are secrets of this attempt."""

    metadata: Metadata
    client: Client
    redirect_uri: str
    verifier: str
    state: str
    nonce: str

    @property
    def url(self) -> str:
        """Where the person's browser goes."""
        query = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": self.redirect_uri,
            "scope": SCOPE,
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(self.metadata.authorization_endpoint).query else "?"
        return f"{self.metadata.authorization_endpoint}{joint}{urlencode(query)}"

    def is_answer(self, target: str) -> bool:
        """Whether this request target belongs to this login: anything else on the host may knock at the listener."""
        parts, query = _read(target)
        return parts == CALLBACK and hmac.compare_digest(query.get("state", "").encode(), self.state.encode())

    def code(self, target: str) -> str:
        """The code in the request target (`/callback?code=...&state=...`) that the browser came back with."""
        if not self.is_answer(target):
            raise LoginRefused("the answer is not to this login: start again")
        _, query = _read(target)
        if query.get("iss", self.metadata.issuer) != self.metadata.issuer:  # RFC 9207 section 2.4
            raise LoginRefused("the answer is from another provider")
        if "code" not in query:
            raise LoginRefused(refusal(query.get("error", ""), query.get("error_description", "")))
        return query["code"]

    def token_request(self, code: str) -> dict[str, str]:
        """Form for the token endpoint."""
        return self.client.form(
            grant_type="authorization_code", code=code, redirect_uri=self.redirect_uri, code_verifier=self.verifier
        )


def begin(metadata: Metadata, client: Client, port: int, rng: Callable[[int], bytes]) -> Attempt:
    """`rng(n)` gives n random bytes; `port` is where the loopback listener waits."""
    verifier, state, nonce = (_text(rng(_ENTROPY)) for _ in range(3))
    return Attempt(metadata, client, f"http://127.0.0.1:{port}{CALLBACK}", verifier, state, nonce)


def _read(target: str) -> tuple[str, dict[str, str]]:
    """(path, parameters that stand there once)."""
    try:
        parts = urlsplit(target)
        query = parse_qs(parts.query, max_num_fields=32)
    except ValueError:
        return "", {}
    return parts.path, {name: values[0] for name, values in query.items() if len(values) == 1}


def challenge(verifier: str) -> str:
    """S256 (RFC 7636 section 4.2)."""
    return _text(hashlib.sha256(verifier.encode("ascii")).digest())


def refusal(error: str, description: str) -> str:
    """What a provider said, for a terminal: printable and short."""
    text = f"{error or 'no reason given'}{': ' if description else ''}{description}"
    return "the provider refused: " + "".join(char for char in text if char.isprintable())[:300]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
