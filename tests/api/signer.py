# SPDX-License-Identifier: Apache-2.0
"""An identity provider's signing key without the provider: ID tokens for what no real provider would sign."""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from veilnet.api.context import Context
from veilnet.api.identity.keys import Published
from veilnet.oidc.metadata import Metadata


class Signer:
    def __init__(self, issuer: str, kid: str = "k1") -> None:
        self.issuer = issuer
        self.key = ECKey.generate_key("P-256", {"kid": kid})

    @property
    def keys(self) -> KeySet:
        return KeySet.import_key_set({"keys": [self.key.as_dict(private=False)]})

    def publish(self, context: Context) -> None:
        """As if the Master had asked the provider just now."""
        place = Metadata(self.issuer, f"{self.issuer}/auth", f"{self.issuer}/token", f"{self.issuer}/keys", None)
        known = context.provider_keys
        known._known[self.issuer] = Published(place, self.keys, known._clock())

    def token(self, *, now: int, **claims: Any) -> str:
        """Claims with None are left out."""
        found = {"iss": self.issuer, "sub": "alice", "aud": "cli", "iat": now, "exp": now + 600, **claims}
        header = {"alg": "ES256", "kid": self.key.kid}
        return jwt.encode(header, {name: value for name, value in found.items() if value is not None}, self.key)
