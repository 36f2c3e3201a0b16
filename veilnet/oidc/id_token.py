# SPDX-License-Identifier: Apache-2.0
"""ID tokens (OpenID Connect Core 1.0 section 3.1.3.7), signed by keys of the configured issuer only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from veilnet.oidc.errors import ProviderError, TokenRefused
from veilnet.oidc.metadata import parse_object

ALGORITHMS: Final = ("ES256", "ES384", "PS256", "PS384", "RS256", "RS384", "EdDSA", "Ed25519")
"""Signatures only: no `none`, and no HMAC, whose key a caller could choose to be a public one."""
TOKEN_MAX: Final = 16 * 1024
CLOCK_SKEW: Final = 60
SUBJECT_MAX: Final = 255
KEYS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the token is about. (`issuer`, `subject`) is the identity; the rest is for people to read."""

    issuer: str
    subject: str
    email: str | None
    name: str | None
    groups: tuple[str, ...]
    expires: int


class UnknownKey(TokenRefused):
    """The token's `kid` is not among the keys: they may have been rotated, fetch them again."""


def parse_keys(body: bytes) -> KeySet:
    """JSON Web Key Set (RFC 7517 section 5). Keys of unknown types are left out (section 5). Raises ProviderError."""
    keys = parse_object(body, "key set").get("keys")
    if not isinstance(keys, list) or not 0 < len(keys) <= KEYS_MAX:
        raise ProviderError(f"key set: needs 1 to {KEYS_MAX} keys")
    found = [key for item in keys if (key := _key(item)) is not None]
    if not found:
        raise ProviderError("key set: no key of a known type for signatures")
    return KeySet.import_key_set({"keys": found})


def _key(item: Any) -> Any | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    public = {name: value for name, value in item.items() if name in _PUBLIC}
    try:
        KeySet.import_key_set({"keys": [public]})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return public


_PUBLIC: Final = frozenset({"kty", "use", "kid", "alg", "n", "e", "crv", "x", "y"})


def verify(
    text: str,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    now: int,
    nonce: str | None = None,
    groups_claim: str = "groups",
) -> Identity:
    """Raises TokenRefused, UnknownKey among them. `audience` is our client id; `nonce` None means none was sent."""
    token = _decoded(text, keys)
    claims = token.claims
    if claims.get("iss") != issuer:
        raise TokenRefused("ID token: of another issuer")
    _check_audience(claims, audience)
    if nonce is not None and claims.get("nonce") != nonce:
        raise TokenRefused("ID token: its nonce is not the one of this login")
    expires = _check_times(claims, now)
    return Identity(
        issuer=issuer,
        subject=_text(claims, "sub", SUBJECT_MAX, needed=True) or "",
        email=_text(claims, "email", 320) if claims.get("email_verified") is not False else None,
        name=_text(claims, "name", 200),
        groups=_groups(claims.get(groups_claim)),
        expires=expires,
    )


def _decoded(text: str, keys: KeySet) -> jwt.Token:
    if len(text) > TOKEN_MAX or not text.isascii():
        raise TokenRefused(f"ID token: longer than {TOKEN_MAX} characters, or not ASCII")
    try:
        return jwt.decode(text, keys, algorithms=list(ALGORITHMS))
    except ValueError as error:
        if "kid" in str(error):
            raise UnknownKey("ID token: signed by a key that the issuer does not publish") from error
        raise TokenRefused("ID token: not a signed token") from error
    except (JoseError, TypeError, KeyError, RecursionError) as error:
        if getattr(error, "error", "") in {"invalid_key_id", "missing_key"}:
            raise UnknownKey("ID token: signed by a key that the issuer does not publish") from error
        raise TokenRefused(f"ID token: {getattr(error, 'error', type(error).__name__)}") from error


def _check_audience(claims: Mapping[str, Any], audience: str) -> None:
    found = claims.get("aud")
    several = found if isinstance(found, list) else [found]
    if audience not in several:
        raise TokenRefused("ID token: made for another client")
    party = claims.get("azp")
    if (len(several) > 1 or party is not None) and party != audience:
        raise TokenRefused("ID token: the authorised party is another client")


def _check_times(claims: Mapping[str, Any], now: int) -> int:
    expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
    if expires is None or issued is None:
        raise TokenRefused("ID token: exp and iat must be numbers")
    if expires + CLOCK_SKEW <= now:
        raise TokenRefused(f"ID token: ended {now - expires} s ago, log in again")
    start = max(issued, _seconds(claims, "nbf") or issued)
    if start > now + CLOCK_SKEW:
        raise TokenRefused(f"ID token: valid only in {start - now} s: check the clocks of Master and provider")
    return expires


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53:
        return int(value)
    return None


def _text(claims: Mapping[str, Any], name: str, limit: int, *, needed: bool = False) -> str | None:
    value = claims.get(name)
    if isinstance(value, str) and 0 < len(value) <= limit and value.isprintable():
        return value
    if needed:
        raise TokenRefused(f"ID token: {name} must be a text of 1 to {limit} characters")
    return None


def _groups(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(item for item in value[:256] if isinstance(item, str) and 0 < len(item) <= 200)
