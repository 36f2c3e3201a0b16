# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a person at a terminal gets an ID token: a browser on this host, or any other screen."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

from veilnet.oidc import device, fetch, pkce
from veilnet.oidc.errors import LoginRefused, ProviderError
from veilnet.oidc.id_token import verify
from veilnet.oidc.metadata import Metadata
from veilnet.oidc.pkce import Client

LOGIN_SECONDS: Final = 300.0
_PAGE: Final = b"<!doctype html><title>VeilNet</title><p>You can close this page and go back to the terminal.</p>"


def by_browser(issuer: str, client: Client, show: Callable[[str], None], seconds: float = LOGIN_SECONDS) -> str:
    """ID token by code and PKCE; `show` gets the URL to open. Raises OidcError."""
    metadata = fetch.get_metadata(issuer)
    attempt, code = code_by_browser(metadata, client, show, seconds)
    status, body = fetch.post_form(metadata.token_endpoint, attempt.token_request(code))
    if status != 200:
        raise ProviderError(f"token endpoint: HTTP status {status}")
    text = device.id_token(body)
    keys = fetch.get_keys(metadata)
    verify(text, keys, issuer=issuer, audience=client.id, now=int(time.time()), nonce=attempt.nonce)
    return text


def code_by_browser(
    metadata: Metadata, client: Client, show: Callable[[str], None], seconds: float = LOGIN_SECONDS
) -> tuple[pkce.Attempt, str]:
    """The attempt and its code, for whoever may redeem it: this host, or a Master that has the client's secret."""
    with _Listener(("127.0.0.1", 0), _Callback) as listener:
        attempt = pkce.begin(metadata, client, listener.server_port, secrets.token_bytes)
        show(attempt.url)
        return attempt, _wait(listener, attempt, seconds)


def by_device(issuer: str, client: Client, show: Callable[[device.Waiting], None]) -> str:
    """ID token by device code; `show` gets the code and where to type it. Raises OidcError."""
    metadata = fetch.get_metadata(issuer)
    waiting = _device(metadata, client)
    show(waiting)
    while True:
        time.sleep(waiting.interval)
        status, body = fetch.post_form(metadata.token_endpoint, waiting.token_request())
        answer = device.poll(waiting, status, body, time.monotonic())
        if isinstance(answer, str):
            return answer
        waiting = answer


def _device(metadata: Metadata, client: Client) -> device.Waiting:
    endpoint = metadata.device_authorization_endpoint
    if endpoint is None:
        raise LoginRefused(f"{metadata.issuer} knows no device login: log in with a browser on this host")
    status, body = fetch.post_form(endpoint, device.authorization_request(client))
    if status != 200:
        raise ProviderError(f"{endpoint}: HTTP status {status}: is the client allowed to use device codes?")
    return device.begin(client, body, time.monotonic())


class _Listener(HTTPServer):
    """Takes the browser's way back. Only this host reaches it, and only the right `state` ends the wait."""

    targets: list[str]

    def server_activate(self) -> None:
        self.targets = []
        super().server_activate()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is not worth a traceback."""


class _Callback(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)
        self.server.targets.append(self.path)

    def log_message(self, *_: object) -> None:
        """The target holds the code, which is a secret."""


def _wait(listener: _Listener, attempt: pkce.Attempt, seconds: float) -> str:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        listener.timeout = left
        listener.handle_request()
        while listener.targets:
            target = listener.targets.pop()
            if attempt.is_answer(target):
                return attempt.code(target)
    raise LoginRefused(f"no answer from the browser within {seconds:.0f} s: start again, or use --device")
