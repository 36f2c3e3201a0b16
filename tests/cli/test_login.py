# SPDX-License-Identifier: Apache-2.0
"""`veilnet login` to a served Master, through providers that nobody here wrote."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Run, Served
from tests.oidc.conftest import Provider, mock_provider, person, provider_binary, submit, zitadel  # noqa: F401
from veilnet.admin_token import read_admin_token
from veilnet.cli import login
from veilnet.cli.admin import connect
from veilnet.client.api import Api, IdentityProviderOut, SessionCreate, SessionCreated
from veilnet.client.transport import ApiProblem
from veilnet.master_address import MasterAddress, read_address

pytestmark = [  # the mock's own
    pytest.mark.filterwarnings("ignore::authlib.deprecate.AuthlibDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning"),
]


def configure(served: Served, provider: Provider, **body: Any) -> IdentityProviderOut:
    fields = {"name": "idp", "issuer": provider.issuer, "client_id": provider.client.id, "creates_users": True}
    if provider.client.secret is not None:
        fields["client_secret"] = provider.client.secret
    wanted: Any = {**fields, **body}
    return connect(f"@{served.admin_file}").create_identity_provider(wanted)


def address(run: Run, served: Served) -> str:
    return run("master", "address", "--state-dir", str(served.state_dir)).out.strip()


def browses(monkeypatch: pytest.MonkeyPatch, show: Callable[[str], None]) -> None:
    monkeypatch.setattr("webbrowser.open", show)


def as_mock(provider: Provider) -> Callable[[httpx.Client, str], None]:
    return lambda browser, url: void(submit(browser, browser.get(url), {"sub": provider.username}))


def as_zitadel(provider: Provider) -> Callable[[httpx.Client, str], None]:
    fields = {"username": provider.username, "password": provider.password or ""}
    return lambda browser, url: void(submit(browser, browser.get(url), fields))


def void(response: httpx.Response) -> None:
    assert response.is_success, response.text


def test_login_whoami_logout_with_a_secret_that_the_master_keeps(
    run: Run,
    served: Served,
    mock_provider: Provider,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    configure(served, mock_provider)
    with person(as_mock(mock_provider)) as show:
        browses(monkeypatch, show)
        done = run("login", "--master", address(run, served))
    assert mock_provider.username in done.err and done.out == ""
    file = tmp_path / ".config" / "veilnet" / "session"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = read_admin_token(file.read_text())
    assert token.url == served.url and token.token not in done.err
    me = json.loads(run("whoami", "--json").out)
    assert (me["kind"], me["name"], me["scopes"]) == ("user", mock_provider.username, {})
    assert "audit_events:read" not in run("whoami").out
    assert "Not allowed" in run("realm", "list", code=4).err  # a user whom nobody gave a role
    admin = connect(f"@{served.admin_file}")
    admin.update_user(me["id"], {"grants": [{"role": "readonly"}]}, if_match="*")
    run("realm", "list")
    assert "Signed out" in run("logout").err
    assert not file.exists()
    assert "not known here" in run("whoami", "--admin-token", "-", stdin=token.encode(), code=4).err
    assert "nobody is signed in" in run("logout", code=1).err
    with person(as_mock(mock_provider)) as show:
        browses(monkeypatch, show)
        run("login")  # the Master's address is known now


def test_browser_login_with_zitadel_and_the_same_id_token_again(
    run: Run,
    served: Served,
    zitadel: Provider,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idp = configure(served, zitadel)
    sent: list[SessionCreate] = []
    create_session = Api.create_session

    def noting(self: Api, body: SessionCreate, **named: Any) -> SessionCreated:
        sent.append(body)
        return create_session(self, body, **named)

    monkeypatch.setattr(Api, "create_session", noting)
    with person(as_zitadel(zitadel)) as show:
        browses(monkeypatch, show)
        run("login", "--master", address(run, served))
    assert json.loads(run("whoami", "--json").out)["kind"] == "user"
    (body,) = sent
    assert body["provider_id"] == idp["id"]
    admin = connect(f"@{served.admin_file}")
    with pytest.raises(ApiProblem, match="used before"):
        create_session(admin, body)
    admin.update_identity_provider(idp["id"], {"state": "disabled"}, if_match="*")
    assert "not known here" in run("whoami", code=4).err
    assert "trusts no identity provider" in run("login", code=4).err


def test_device_login_with_zitadel(
    run: Run,
    served: Served,
    zitadel: Provider,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(served, zitadel, creates_users=False)
    admin = connect(f"@{served.admin_file}")
    admin.create_user({"name": "tester", "issuer": zitadel.issuer, "subject": "id1", "grants": [{"role": "auditor"}]})

    def act(browser: httpx.Client, url: str) -> None:
        as_zitadel(zitadel)(browser, url)
        void(browser.get(httpx.URL(url).join("/device/confirm"), params={"action": "allowed"}))

    with person(act) as show:

        def say(text: str) -> None:
            if found := re.match(r"or open (http\S+)", text):
                show(found[1])

        monkeypatch.setattr(login, "say", say)
        run("login", "--device", "--master", address(run, served))
    me = json.loads(run("whoami", "--json").out)
    assert me["name"] == "tester" and "audit_events:read" in me["scopes"]


def test_a_person_whom_nobody_made_a_user(
    run: Run,
    served: Served,
    mock_provider: Provider,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    configure(served, mock_provider, creates_users=False)
    with person(as_mock(mock_provider)) as show:
        browses(monkeypatch, show)
        refused = run("login", "--master", address(run, served), code=4)
    assert mock_provider.issuer in refused.err and "make a user" in refused.err
    assert not (tmp_path / ".config" / "veilnet" / "session").exists()
    assert "secret, which the Master keeps" in run("login", "--device", "--master", address(run, served), code=2).err


def test_which_master_and_which_provider(run: Run, served: Served, tmp_path: Path) -> None:
    assert "which Master?" in run("login", code=2).err
    assert "64 hex digits" in run("login", "--master", f"{served.url}#ab", code=2).err
    assert "this host only" in run("login", "--master", "http://192.0.2.1", code=2).err
    assert "another TLS certificate" in run("login", "--master", f"{served.url}#{'0' * 64}", code=3).err
    assert "master address" in run("login", "--master", served.url, code=3).err
    home = tmp_path / ".config" / "veilnet" / "admin-token"
    home.parent.mkdir(parents=True)
    home.write_text(served.admin_file.read_text())
    assert "trusts no identity provider" in run("login", code=4).err  # the Master of the token that is there
    admin = connect(f"@{served.admin_file}")
    for name in ("one", "two"):
        admin.create_identity_provider({"name": name, "issuer": f"https://{name}.example", "client_id": "cli"})
    assert "one, two" in run("login", code=2).err


def test_an_owners_token_from_the_masters_host(run: Run, served: Served, tmp_path: Path) -> None:
    target = tmp_path / "again"
    run("master", "owner-token", str(target), "--state-dir", str(served.state_dir))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    run("realm", "create", "lab", "--admin-token", f"@{target}")
    assert "exists" in run("master", "owner-token", str(target), "--state-dir", str(served.state_dir), code=2).err


@pytest.mark.parametrize("text", ["", "x", "ftp://m", "https://m/path", "https://m#", "https://m#zz", "http://m"])
def test_addresses_that_are_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_address(text)


def test_addresses() -> None:
    for found in (MasterAddress("https://m:1", "ab" * 32), MasterAddress("http://127.0.0.1:1", None)):
        assert read_address(f" {found.text}\n") == found
