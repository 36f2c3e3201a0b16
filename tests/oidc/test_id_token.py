# SPDX-License-Identifier: Apache-2.0
"""ID tokens that must not be believed, and the provider's documents whole, wrong and hostile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from veilnet.oidc import device, pkce
from veilnet.oidc.errors import LoginRefused, OidcError, ProviderError, TokenRefused
from veilnet.oidc.id_token import UnknownKey, parse_keys, verify
from veilnet.oidc.metadata import Metadata, parse_metadata, well_known
from veilnet.oidc.pkce import Client

ISSUER, CLIENT, NOW = "https://id.example.org", "veilnet-cli", 1_800_000_000
KEY = ECKey.generate_key("P-256", {"kid": "one"})
OTHER = ECKey.generate_key("P-256", {"kid": "two"})
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": CLIENT, "sub": "alice", "iat": NOW, "exp": NOW + 300, "nonce": "n"}
METADATA = Metadata(ISSUER, f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/keys", None)


def published(*keys: ECKey | RSAKey) -> KeySet:
    return parse_keys(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode())


def signed(key: Any = KEY, alg: str = "ES256", **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": key.kid}, claims, key, algorithms=[alg])


def check(text: str, **changes: Any) -> Any:
    arguments = {"issuer": ISSUER, "audience": CLIENT, "now": NOW, "nonce": "n", **changes}
    return verify(text, published(KEY), **arguments)


def test_a_good_token() -> None:
    found = check(signed(email="a@example.org", name="Alice", groups=["ops", 7, "dev"]))
    assert (found.subject, found.email, found.groups, found.expires) == (
        "alice",
        "a@example.org",
        ("ops", "dev"),
        NOW + 300,
    )


def test_an_email_that_is_not_verified_is_left_out() -> None:
    assert check(signed(email="a@example.org", email_verified=False)).email is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example.org"}, "another issuer"),
        ({"iss": ISSUER + "/"}, "another issuer"),
        ({"aud": "another"}, "another client"),
        ({"aud": ["another"]}, "another client"),
        ({"aud": [CLIENT, "another"]}, "authorised party"),
        ({"azp": "another"}, "authorised party"),
        ({"aud": None}, "another client"),
        ({"exp": NOW - 60}, "ended 60 s ago"),
        ({"exp": None}, "exp and iat"),
        ({"exp": "tomorrow"}, "exp and iat"),
        ({"exp": True}, "exp and iat"),
        ({"exp": 1e300}, "exp and iat"),
        ({"iat": None}, "exp and iat"),
        ({"iat": NOW + 61}, "valid only in 61 s"),
        ({"nbf": NOW + 100}, "valid only in 100 s"),
        ({"nonce": "old"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sub": "a\nb"}, "sub"),
    ],
)
def test_claims_that_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        check(signed(**changes))


def test_clocks_may_differ_by_a_minute() -> None:
    check(signed(iat=NOW + 60, exp=NOW + 300))
    check(signed(iat=NOW - 400, exp=NOW - 59))


def test_a_key_that_is_not_published() -> None:
    with pytest.raises(UnknownKey):
        check(signed(OTHER))


def test_the_right_kid_with_another_key() -> None:
    impostor = ECKey.generate_key("P-256", {"kid": "one"})
    with pytest.raises(TokenRefused):
        check(signed(impostor))


def test_no_signature_and_a_public_key_as_hmac_secret() -> None:
    body = signed().split(".")
    header = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0"  # {"alg":"none","kid":"one"}
    secret = OctKey.import_key(json.dumps(KEY.as_dict(private=False)).encode())
    hmac = jwt.encode({"alg": "HS256", "kid": "one"}, CLAIMS, secret, algorithms=["HS256"])
    for text in (f"{header}.{body[1]}.", f"{header}.{body[1]}.{body[2]}", hmac):
        with pytest.raises(TokenRefused):
            check(text)


def test_every_other_bit_of_the_signature_flipped() -> None:
    text = signed()
    head, _, signature = text.rpartition(".")
    for at in range(0, len(signature) - 1, 2):
        wrong = signature[:at] + ("A" if signature[at] != "A" else "B") + signature[at + 1 :]
        with pytest.raises(TokenRefused):
            check(f"{head}.{wrong}")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.hex().replace("2e", ".")))
def test_noise_is_refused_by_its_own_error(text: str) -> None:
    with pytest.raises(TokenRefused):
        check(text)


def test_keys_of_other_types_and_uses_are_left_out() -> None:
    document = {"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "x"}, 7, KEY.as_dict(private=False)]}
    check(signed(), now=NOW)
    assert len(parse_keys(json.dumps(document).encode()).keys) == 1
    encryption = {**KEY.as_dict(private=False), "use": "enc"}
    for wrong in (b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": {}}', json.dumps({"keys": [encryption]}).encode()):
        with pytest.raises(ProviderError):
            parse_keys(wrong)


DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
}


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example.org"},
        {"token_endpoint": "http://id.example.org/token"},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": "https://user:pw@id.example.org/keys"},
        {"jwks_uri": "https://[::1"},
        {"device_authorization_endpoint": "ftp://id.example.org"},
        {"authorization_endpoint": "https://" + "a" * 600},
    ],
)
def test_metadata_that_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderError):
        parse_metadata(ISSUER, json.dumps({**DOCUMENT, **change}).encode())


def test_metadata_and_where_it_is() -> None:
    assert parse_metadata(ISSUER, json.dumps(DOCUMENT).encode()) == METADATA
    assert (
        well_known("https://id.example.org/realm/") == "https://id.example.org/realm/.well-known/openid-configuration"
    )
    for wrong in ("http://id.example.org", "id.example.org", "https://id.example.org?x=1", ""):
        with pytest.raises(ProviderError):
            well_known(wrong)


def test_pkce_challenge_of_rfc_7636_appendix_b() -> None:
    assert (
        pkce.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


@pytest.mark.parametrize(
    "target",
    [
        "/callback?code=c",
        "/callback?code=c&state=x",
        "/other?code=c&state=S",
        "/callback?code=c&state=S&state=S",
        "//[",
    ],
)
def test_answers_to_another_login(target: str) -> None:
    attempt = pkce.begin(METADATA, Client(CLIENT), 7000, bytes)
    with pytest.raises(LoginRefused, match="not to this login"):
        attempt.code(target.replace("S", attempt.state))


def test_an_answer_of_another_provider() -> None:
    attempt = pkce.begin(METADATA, Client(CLIENT), 7000, bytes)
    good = f"/callback?code=c&state={attempt.state}"
    assert attempt.code(good) == attempt.code(f"{good}&iss=https%3A%2F%2Fid.example.org") == "c"
    with pytest.raises(LoginRefused, match="another provider"):
        attempt.code(f"{good}&iss=https%3A%2F%2Fevil.example.org")


BEGUN = {
    "device_code": "d",
    "user_code": "A-B",
    "verification_uri": f"{ISSUER}/device",
    "expires_in": 30,
    "interval": 5,
}


def test_device_polling_by_the_book() -> None:
    waiting = device.begin(Client(CLIENT), json.dumps(BEGUN).encode(), now=100.0)
    same = device.poll(waiting, 400, b'{"error": "authorization_pending"}', 105.0)
    assert same == waiting
    slower = device.poll(waiting, 400, b'{"error": "slow_down"}', 110.0)
    assert isinstance(slower, device.Waiting) and slower.interval == 10.0
    assert device.poll(slower, 200, b'{"id_token": "t"}', 115.0) == "t"
    for body, now in ((b'{"error": "expired_token"}', 115.0), (b'{"error": "authorization_pending"}', 126.0)):
        with pytest.raises(LoginRefused):
            device.poll(waiting, 400, body, now)


@given(st.integers(100, 599), st.binary(max_size=60) | st.just(b"[]") | st.just(b'{"error": []}'))
def test_a_device_endpoint_that_answers_noise(status: int, body: bytes) -> None:
    waiting = device.begin(Client(CLIENT), json.dumps(BEGUN).encode(), now=0.0)
    with pytest.raises(OidcError):
        device.poll(waiting, status, body, 1.0)


@pytest.mark.parametrize(
    "change", [{"user_code": None}, {"expires_in": -1}, {"interval": "5"}, {"verification_uri": "x"}]
)
def test_device_answers_that_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderError):
        device.begin(Client(CLIENT), json.dumps({**BEGUN, **change}).encode(), now=0.0)
