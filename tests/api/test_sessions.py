# SPDX-License-Identifier: Apache-2.0
"""ID tokens become sessions of people: whose count, for how long, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import START, Master, make_settings
from tests.api.signer import Signer
from veilnet.api.identity.keys import ProviderKeys
from veilnet.api.platform.rate_limit import Rate, RateLimiter
from veilnet.oidc.errors import ProviderError, TokenRefused

ISSUER = "https://idp.example"
SEALED = {"client_secret": "very secret", "group_grants": [{"group": "g", "grants": [{"role": "admin"}]}]}


@pytest.fixture
def signer(master: Master) -> Signer:
    found = Signer(ISSUER)
    found.publish(master.context)
    return found


async def provider(master: Master, **body: Any) -> str:
    fields = {"name": "idp", "issuer": ISSUER, "client_id": "cli", "creates_users": True, **body}
    return str((await master.request("POST", "/identity-providers", json=fields, status=201))["id"])


async def sign_in(master: Master, provider_id: str, token: str, *, status: int = 201) -> dict[str, Any]:
    body = {"provider_id": provider_id, "id_token": token}
    found: dict[str, Any] = await master.request("POST", "/login/sessions", json=body, headers={}, status=status)
    return found


def bearer(session: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['token']}"}


async def test_a_first_login_makes_a_user_and_a_session_with_an_end(master: Master, signer: Signer) -> None:
    idp = await provider(master, session_seconds=3600)
    token = signer.token(now=START, email="alice@example.org", email_verified=True)
    made = await sign_in(master, idp, token)
    user = await master.request("GET", f"/users/{made['user_id']}")
    assert (user["name"], user["issuer"], user["subject"]) == ("alice@example.org", ISSUER, "alice")
    assert user["grants"] == [] and user["last_login_at"] is not None
    me = await master.request("GET", "/whoami", headers=bearer(made))
    assert (me["kind"], me["id"], me["token_id"], me["scopes"]) == ("user", made["user_id"], made["id"], {})
    again = await sign_in(master, idp, signer.token(now=START + 1))
    assert again["user_id"] == made["user_id"]
    entry = (await master.request("GET", "/audit-events", params={"action": "create_session"}))["items"][0]
    assert (entry["actor_kind"], entry["actor_id"]) == ("user", made["user_id"])
    stored = master.database.content()
    assert made["token"].encode() not in stored and made["token"].split("_", 2)[2].encode() not in stored
    master.clock.now += 3600
    await master.request("GET", "/whoami", headers=bearer(made), status=401)


async def test_an_id_token_is_taken_once_however_its_signature_is_written(master: Master, signer: Signer) -> None:
    idp = await provider(master)
    token = signer.token(now=START)
    await sign_in(master, idp, token)
    problem = await sign_in(master, idp, token, status=401)
    assert problem["code"] == "login-refused" and "used before" in problem["detail"]
    signed, _, signature = token.rpartition(".")
    other = _other_signature(signature)
    assert other != signature
    problem = await sign_in(master, idp, f"{signed}.{other}", status=401)
    assert "used before" in problem["detail"]  # the signature is a good one, so this is what refuses it
    master.clock.now += 700
    assert "ended" in (await sign_in(master, idp, token, status=401))["detail"]


def _other_signature(text: str) -> str:
    """The second valid form of an ECDSA signature: (r, n - s)."""
    import base64  # noqa: PLC0415

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    s = order - int.from_bytes(raw[32:], "big")
    return base64.urlsafe_b64encode(raw[:32] + s.to_bytes(32, "big")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": START - 61}, "ended"),
        ({"iat": START + 3600, "exp": START + 7200}, "valid only in"),
        ({"aud": "another"}, "another client"),
        ({"aud": ["cli", "another"], "azp": "another"}, "authorised party"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"exp": None}, "exp and iat"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_tokens_that_are_refused(master: Master, signer: Signer, claims: dict[str, Any], why: str) -> None:
    idp = await provider(master)
    problem = await sign_in(master, idp, signer.token(now=START, **claims), status=401)
    assert problem["code"] == "login-refused" and why in problem["detail"]
    assert (await master.request("GET", "/users"))["items"] == []


async def test_strange_keys_providers_and_bodies(master: Master, signer: Signer) -> None:
    idp = await provider(master)
    for token in (Signer(ISSUER).token(now=START), "x", "a.b.c", signer.token(now=START)[:-5]):
        assert (await sign_in(master, idp, token, status=401))["code"] == "login-refused"
    assert (await sign_in(master, "idp_x", signer.token(now=START), status=401))["code"] == "login-refused"
    good = signer.token(now=START)
    for body in (
        {"provider_id": idp},
        {"provider_id": idp, "id_token": good, "code": "x"},
        {"provider_id": idp, "code": "x"},
        {"provider_id": idp, "id_token": good, "issuer": "https://evil.example"},
        {"provider_id": idp, "id_token": good, "jwks_uri": "https://evil.example/keys"},
        {
            "provider_id": idp,
            "code": "x",
            "nonce": "n" * 16,
            "code_verifier": "v" * 43,
            "redirect_uri": "https://evil/",
        },
    ):
        await master.request("POST", "/login/sessions", json=body, headers={}, status=422)
    code = {"code": "x", "nonce": "n" * 16, "code_verifier": "v" * 43, "redirect_uri": "http://127.0.0.1:1/callback"}
    body = {"provider_id": idp, **code}
    problem = await master.request("POST", "/login/sessions", json=body, headers={}, status=401)
    assert "send the id_token" in problem["detail"]


async def test_who_is_no_user_here_learns_what_to_tell_an_administrator(master: Master, signer: Signer) -> None:
    idp = await provider(master, creates_users=False)
    problem = await sign_in(master, idp, signer.token(now=START), status=403)
    assert problem["code"] == "login-refused" and "'alice'" in problem["detail"] and ISSUER in problem["detail"]
    person = {"name": "alice", "issuer": ISSUER, "subject": "alice", "grants": [{"role": "auditor"}]}
    user = await master.request("POST", "/users", json=person, status=201)
    made = await sign_in(master, idp, signer.token(now=START))  # the refused token was not used up
    assert made["user_id"] == user["id"]
    await master.request("GET", "/audit-events", headers=bearer(made))
    await master.request("POST", "/users", json={"name": "x"}, headers=bearer(made), status=403)


async def test_a_service_account_does_not_sign_in_as_a_person(master: Master, signer: Signer) -> None:
    idp = await provider(master)
    body = {"name": "robot", "issuer": ISSUER, "subject": "alice"}
    await master.request("POST", "/service-accounts", json=body, status=201)
    await sign_in(master, idp, signer.token(now=START), status=403)


async def test_roles_follow_the_providers_groups(master: Master, signer: Signer) -> None:
    realm = await master.realm()
    mapping = [
        {"group": "net", "grants": [{"role": "operator", "realm_id": realm["id"]}]},
        {"group": "boss", "grants": [{"role": "admin"}]},
    ]
    idp = await provider(master, groups_claim="roles", group_grants=mapping)
    made = await sign_in(master, idp, signer.token(now=START, roles=["net", "other"], groups=["boss"]))
    me = await master.request("GET", "/whoami", headers=bearer(made))
    assert me["scopes"]["nodes:update"] == [realm["id"]] and "users:create" not in me["scopes"]
    await master.change("PATCH", f"/identity-providers/{idp}", json={"group_grants": []})
    assert (await master.request("GET", "/whoami", headers=bearer(made)))["scopes"] == {}


@pytest.mark.parametrize("end", ["suspend", "delete-user", "disable", "delete-provider", "sign-out", "by-admin"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_ends_a_session_at_once(master: Master, signer: Signer, end: str) -> None:
    idp = await provider(master)
    made = await sign_in(master, idp, signer.token(now=START))
    await master.request("GET", "/whoami", headers=bearer(made))
    if end == "suspend":
        await master.change("PATCH", f"/users/{made['user_id']}", json={"state": "suspended"})
        assert "suspended" in (await sign_in(master, idp, signer.token(now=START + 1), status=403))["detail"]
    elif end == "delete-user":
        await master.change("DELETE", f"/users/{made['user_id']}", status=204)
    elif end == "disable":
        await master.change("PATCH", f"/identity-providers/{idp}", json={"state": "disabled"})
        assert (await sign_in(master, idp, signer.token(now=START + 1), status=401))["code"] == "login-refused"
        assert (await master.request("GET", "/login", headers={}))["providers"] == []
    elif end == "delete-provider":
        await master.change("DELETE", f"/identity-providers/{idp}", status=204)
    elif end == "sign-out":
        await master.request("POST", f"/whoami/tokens/{made['id']}/revoke", headers=bearer(made))
    else:
        await master.request("POST", f"/api-tokens/{made['id']}/revoke")
    await master.request("GET", "/whoami", headers=bearer(made), status=401)
    if end == "disable":
        await master.change("PATCH", f"/identity-providers/{idp}", json={"state": "enabled"})
        await master.request("GET", "/whoami", headers=bearer(made), status=401)  # a session does not come back


async def test_strangers_see_what_a_login_needs_and_nothing_else(master: Master) -> None:
    await provider(master, **SEALED)
    (seen,) = (await master.request("GET", "/login", headers={}))["providers"]
    assert seen.keys() == {"id", "name", "issuer", "client_id", "confidential"} and seen["confidential"] is True
    (row,) = (await master.request("GET", "/identity-providers"))["items"]
    assert "very secret" not in str(row) and row["confidential"] is True
    stored = master.database.content()
    assert b"very secret" not in stored
    audit = await master.request("GET", "/audit-events")
    assert "very secret" not in str(audit)
    changed = await master.change("PATCH", f"/identity-providers/{row['id']}", json={"name": "other"})
    assert changed["confidential"] is True
    changed = await master.change("PATCH", f"/identity-providers/{row['id']}", json={"client_secret": None})
    assert changed["confidential"] is False


async def test_configurations_that_are_refused(master: Master) -> None:
    await provider(master)
    base = {"name": "two", "issuer": "https://two.example", "client_id": "cli"}
    for change, status in (
        ({"issuer": "http://two.example"}, 422),
        ({"issuer": "https://two.example?x=1"}, 422),
        ({"issuer": "https://user@two.example"}, 422),
        ({"issuer": ISSUER}, 409),
        ({"name": "idp"}, 409),
        ({"session_seconds": 10}, 422),
        ({"client_id": ""}, 422),
        ({"jwks_uri": "https://two.example/keys"}, 422),
    ):
        await master.request("POST", "/identity-providers", json={**base, **change}, status=status)


async def test_logins_have_a_rate_of_their_own(master: Master, signer: Signer) -> None:
    idp = await provider(master)
    rates = master.context.settings.rates.model_copy(update={"login": Rate(per_second=0.01, burst=2)})
    object.__setattr__(master.context, "limiter", RateLimiter(rates))
    for _ in range(2):
        await sign_in(master, idp, "x", status=401)
    assert (await sign_in(master, idp, signer.token(now=START), status=429))["code"] == "rate-limited"
    assert make_settings(master.context.settings.state_dir).rates.login.burst > 0


class Asked:
    """A provider whose keys change, and that counts who asks."""

    def __init__(self) -> None:
        self.signer, self.times, self.broken, self.now = Signer(ISSUER, "k1"), 0, False, 0.0
        self.keys = ProviderKeys(self.read, lambda: self.now)

    def read(self, issuer: str) -> Any:
        self.times += 1
        if self.broken:
            raise ProviderError("away")
        return None, self.signer.keys

    async def verify(self) -> None:
        await self.keys.verify(self.signer.token(now=START), ISSUER, "cli", START)


async def test_keys_are_asked_for_once_an_hour_and_for_an_unknown_one_once_a_minute() -> None:
    asked = Asked()
    for _ in range(3):
        await asked.verify()
    assert asked.times == 1
    asked.signer = Signer(ISSUER, "k2")
    asked.now = 59.0
    for _ in range(3):
        with pytest.raises(TokenRefused, match="does not publish"):
            await asked.verify()
    assert asked.times == 1
    asked.now = 60.0
    await asked.verify()
    assert asked.times == 2
    asked.now += 3600
    await asked.verify()
    assert asked.times == 3


async def test_a_provider_that_fails_is_left_alone_for_some_seconds() -> None:
    asked = Asked()
    asked.broken = True
    for _ in range(3):
        with pytest.raises(ProviderError, match="away"):
            await asked.verify()
    assert asked.times == 1
    asked.broken, asked.now = False, 5.0
    await asked.verify()


async def test_a_provider_that_is_away_is_a_503_and_blocks_no_writer(master: Master) -> None:
    idp = await provider(master, issuer="http://127.0.0.1:9")
    problem = await sign_in(master, idp, Signer("http://127.0.0.1:9").token(now=START), status=503)
    assert problem["code"] == "provider-unavailable"
