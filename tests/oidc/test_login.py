# SPDX-License-Identifier: Apache-2.0
"""Logins end to end against real providers: browser with PKCE on loopback, and device code."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.oidc.conftest import Provider, person, submit
from veilnet.oidc import fetch, login
from veilnet.oidc.device import Waiting
from veilnet.oidc.errors import LoginRefused, ProviderError
from veilnet.oidc.id_token import Identity, verify

pytestmark = [  # the mock's own
    pytest.mark.filterwarnings("ignore::authlib.deprecate.AuthlibDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning"),
]


def identity(provider: Provider, text: str) -> Identity:
    keys = fetch.get_keys(fetch.get_metadata(provider.issuer))
    return verify(text, keys, issuer=provider.issuer, audience=provider.client.id, now=int(time.time()))


def test_browser_login_with_the_mock(mock_provider: Provider) -> None:
    def act(browser: httpx.Client, url: str) -> None:
        page = browser.get(url)
        assert "close this page" in submit(browser, page, {"sub": mock_provider.username}).text

    with person(act) as show:
        text = login.by_browser(mock_provider.issuer, mock_provider.client, show, seconds=20)
    found = identity(mock_provider, text)
    assert (found.issuer, found.subject) == (mock_provider.issuer, mock_provider.username)
    assert found.email == mock_provider.username


def test_a_person_who_says_no(mock_provider: Provider) -> None:
    def act(browser: httpx.Client, url: str) -> None:
        query = httpx.URL(
            url
        ).params  # what a provider sends then; the mock forgets the state, which RFC 6749 4.1.2.1 wants
        browser.get(query["redirect_uri"], params={"error": "access_denied", "state": query["state"]})

    with person(act) as show, pytest.raises(LoginRefused, match="access_denied"):
        login.by_browser(mock_provider.issuer, mock_provider.client, show, seconds=20)


def test_another_program_knocking_at_the_listener_does_not_end_the_login(mock_provider: Provider) -> None:
    def act(browser: httpx.Client, url: str) -> None:
        callback = httpx.URL(url).params["redirect_uri"]
        browser.get(callback, params={"code": "stolen", "state": "guess"})
        browser.get(callback.replace("/callback", "/favicon.ico"))
        submit(browser, browser.get(url), {"sub": mock_provider.username})

    with person(act) as show:
        text = login.by_browser(mock_provider.issuer, mock_provider.client, show, seconds=20)
    assert identity(mock_provider, text).subject == mock_provider.username


def test_nobody_at_the_browser(mock_provider: Provider) -> None:
    with pytest.raises(LoginRefused, match="no answer from the browser"):
        login.by_browser(mock_provider.issuer, mock_provider.client, lambda _: None, seconds=0.2)


def test_browser_login_with_zitadel(zitadel: Provider) -> None:
    def act(browser: httpx.Client, url: str) -> None:
        page = browser.get(url)
        answer = submit(browser, page, {"username": zitadel.username, "password": zitadel.password or ""})
        assert "close this page" in answer.text

    with person(act) as show:
        text = login.by_browser(zitadel.issuer, zitadel.client, show, seconds=20)
    assert identity(zitadel, text).issuer == zitadel.issuer


def test_device_login_with_zitadel(zitadel: Provider) -> None:
    with person(lambda browser, url: _confirm(browser, url, zitadel, "allowed")) as show:
        text = login.by_device(zitadel.issuer, zitadel.client, lambda waiting: show(_address(waiting)))
    assert identity(zitadel, text).subject == "id1"


def test_a_device_login_that_is_denied(zitadel: Provider) -> None:
    with (
        person(lambda browser, url: _confirm(browser, url, zitadel, "denied")) as show,
        pytest.raises(LoginRefused, match="access_denied"),
    ):
        login.by_device(zitadel.issuer, zitadel.client, lambda waiting: show(_address(waiting)))


def test_a_provider_without_device_codes(mock_provider: Provider) -> None:
    with pytest.raises(LoginRefused, match="no device login"):
        login.by_device(mock_provider.issuer, mock_provider.client, lambda _: None)


def test_nobody_listens() -> None:
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1:1"):
        fetch.get_metadata("http://127.0.0.1:1")


def _address(waiting: Waiting) -> str:
    assert waiting.user_code in str(waiting.verification_uri_complete)
    return str(waiting.verification_uri_complete)


def _confirm(browser: httpx.Client, url: str, provider: Provider, action: str) -> None:
    page = browser.get(url)
    done = submit(browser, page, {"username": provider.username, "password": provider.password or ""})
    done = browser.get(done.url.join("/device/confirm"), params={"action": action})
    assert f"Device authorization {action}" in done.text
